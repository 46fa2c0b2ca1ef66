"""mscale_all_dim scales the softmax of DeepSeek's family, under every rotation as its config.json would have it."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers
from tiny_models import SMALL, logits, tokens

from ropewalk.errors import ModelError
from ropewalk.methods import make_params, resolve
from ropewalk.methods.blend import temperature
from ropewalk.models import geometry_of, patched
from ropewalk.models.patch import check_patchable
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow, score, split

MLA = {"qk_rope_head_dim": 16, "qk_nope_head_dim": 8, "v_head_dim": 24, "kv_lora_rank": 16, "q_lora_rank": 16}
EXPERTS = {"n_routed_experts": 2, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 1, "first_k_dense_replace": 2}
# class stem: what differs from SMALL
FAMILY: dict[str, dict[str, Any]] = {
    "DeepseekV3": {**MLA, **EXPERTS},
    "MiniCPM3": MLA,
    "Youtu": MLA,
    "Glm4MoeLite": {**MLA, **EXPERTS},
}
PLAIN = {"rope_type": "default", "rope_theta": 1e4}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
BOTH = {"mscale": 1.0, "mscale_all_dim": 0.7}
LENGTH = 200
TOLERANCE = 1e-4  # float64 against float32 frequencies, 200 positions; the softmax factor alone is worth over 0.1


def config_of(stem: str, rope: dict[str, Any]) -> Any:
    more = {"num_key_value_heads": SMALL["num_attention_heads"], **FAMILY[stem], "rope_parameters": dict(rope)}
    return getattr(transformers, f"{stem}Config")(**{**SMALL, **more})


def model_of(stem: str, rope: dict[str, Any]) -> Any:
    tiny_models.silence()
    model = getattr(transformers, f"{stem}ForCausalLM")(config_of(stem, rope))
    model.load_state_dict(_weights(stem))
    return model.eval().requires_grad_(False)


@functools.cache
def _weights(stem: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return getattr(transformers, f"{stem}ForCausalLM")(config_of(stem, PLAIN)).state_dict()


def rotation_of(model: Any, method: str, **raw: Any) -> Rotation:
    return resolve(geometry_of(model.config), method, make_params(method, raw), LENGTH).rotation


SHIPPED = {
    "unscaled": PLAIN,
    "yarn": YARN,
    "yarn with both": YARN | BOTH,
    "mscale_all_dim alone": YARN | {"mscale_all_dim": 1},
}
# what is asked for, and what config.json says then
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": ({"factor": 2}, PLAIN | {"rope_type": "linear", "factor": 2.0}),
    "abf": ({"rope_theta": 1e5}, PLAIN | {"rope_theta": 1e5}),
    "yarn": ({"factor": 4, "original_max_position_embeddings": 64, **BOTH}, YARN | BOTH),
}


@pytest.mark.parametrize("stem", FAMILY)
@pytest.mark.parametrize("ships", SHIPPED)
def test_every_method_has_the_softmax_scale_of_its_own_config(stem: str, ships: str) -> None:
    model, ids = model_of(stem, SHIPPED[ships]), tokens(length=LENGTH)
    before = logits(model, ids)
    check_patchable(model)
    with patched(model, rotation_of(model, "none")):
        assert (logits(model, ids) - before).abs().max() < TOLERANCE
    for method, (raw, rope) in METHODS.items():
        with patched(model, rotation_of(model, method, **raw)):
            ours = logits(model, ids)
        assert (ours - logits(model_of(stem, rope), ids)).abs().max() < TOLERANCE, method
    assert torch.equal(logits(model, ids), before), "its own scale is back"


def test_the_softmax_factor_is_worth_more_than_the_tolerance() -> None:
    ids = tokens(length=LENGTH)
    with_it, without = (
        logits(model_of("DeepseekV3", rope), ids) for rope in (YARN | BOTH, YARN | {"attention_factor": 1.0})
    )
    assert (with_it - without).abs().max() > 1000 * TOLERANCE


def test_one_number_makes_two_measurements() -> None:
    model = model_of("DeepseekV3", YARN | {"mscale": 1.0, "mscale_all_dim": 1.0})
    ships, sharp = rotation_of(model, "none"), rotation_of(model, "yarn", factor=4, attention_factor=1)
    assert ships.softmax_factor == pytest.approx(temperature(4) ** 2)
    assert (ships.inv_freq == sharp.inv_freq).all()
    assert ships.attention_factor == sharp.attention_factor == 1
    assert ships != sharp


def test_stacked_factors_multiply() -> None:
    model = model_of("DeepseekV3", YARN | BOTH)
    on_top = rotation_of(model, "yarn", factor=2, compose="stack", **BOTH)
    assert on_top.softmax_factor == pytest.approx((temperature(4, 0.7) * temperature(2, 0.7)) ** 2)


def test_llama_ignores_it() -> None:
    config = transformers.LlamaConfig(**SMALL, rope_parameters=YARN | BOTH)
    assert not geometry_of(config).softmax_mscale
    assert resolve(geometry_of(config), "none", make_params("none", {}), LENGTH).rotation.softmax_factor == 1


def test_rows_of_two_softmax_scales_are_scored_as_if_alone() -> None:
    model = model_of("DeepseekV3", YARN | BOTH)
    parts, ids = split(model), tokens(length=64)[0].numpy().astype("int32")
    each = [rotation_of(model, "none"), rotation_of(model, "linear", factor=2), rotation_of(model, "linear", factor=3)]
    rows = [NllRow(ids=ids, scheme=Scheme(rotation=rotation)) for rotation in each + each]
    found = {index: nll for batch in score(model, parts, rows, 1000) for index, nll in batch}
    for index, row in enumerate(rows):
        ((_, alone),) = next(score(model, parts, [row], 1))
        assert abs(found[index] - alone).max() < TOLERANCE
    with (
        pytest.raises(ModelError, match=r"^DeepseekV3ForCausalLM: rows with softmax factors \[1\.0, 1\.20"),
        patched(model, each),
    ):
        pass


def test_a_scale_that_the_configuration_does_not_explain_is_refused() -> None:
    model = model_of("DeepseekV3", YARN | BOTH)
    model.model.layers[1].self_attn.scaling *= 1.01
    with pytest.raises(
        ModelError, match=r"^DeepseekV3Attention scales its logits by 0\.24\d+, where its qk_head_dim and"
    ):
        check_patchable(model)


def test_a_rotation_with_a_softmax_factor_is_refused_by_other_models() -> None:
    model = tiny_models.model_of("llama")
    wrong = Rotation(inv_freq=geometry_of(model.config).unscaled_inv_freq, softmax_factor=1.2)
    with (
        pytest.raises(ModelError, match=r"^LlamaForCausalLM: its attention reads no mscale_all_dim"),
        patched(model, wrong),
    ):
        pass


def readers() -> list[str]:
    """Architectures of the installed transformers whose attention reads mscale_all_dim."""
    names = [each.name for each in pkgutil.iter_modules(transformers.models.__path__)]
    found = []
    for name in names:
        spec = importlib.util.find_spec(f"transformers.models.{name}.modeling_{name}")
        if spec is not None and spec.origin and "mscale_all_dim" in Path(spec.origin).read_text(encoding="utf-8"):
            found.append(name)
    return found


@pytest.mark.parametrize("name", readers())
def test_every_architecture_that_reads_it_is_known(name: str) -> None:
    """A new one that reads it in another way shows here."""
    modeling = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    source = inspect.getsource(modeling)
    assert source.count("yarn_apply_mscale(config.rope_parameters, self.qk_head_dim ** (-0.5))") == 1
    assert source.count("mscale_all_dim") == source[source.index("def yarn_apply_mscale") :][:500].count(
        "mscale_all_dim"
    )
    configuration = importlib.import_module(f"transformers.models.{name}.configuration_{name}")
    kinds = [
        kind
        for _, kind in inspect.getmembers(configuration, inspect.isclass)
        if kind.__module__ == configuration.__name__ and hasattr(kind, "qk_rope_head_dim")
    ]
    assert kinds
    assert all(geometry_of(kind(rope_parameters=dict(PLAIN))).softmax_mscale for kind in kinds)
