"""Laws: export(none) of every architecture gives the same logits, export(method) those of the patched model.

So what a checkpoint ships beside its rotation (query temperature, softmax scale, mrope sections) goes along.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from shipping_models import SHIPPED, WINDOW, class_of, config_of, model_of

import ropewalk as rw
from ropewalk.errors import ExportError, ModelError
from ropewalk.export import ENGINES, Request, request
from ropewalk.export.beside import SOFTMAX_MSCALE
from ropewalk.export.checkpoint import checkpoint_of, describe, patched_config
from ropewalk.export.directory import write_directory
from ropewalk.models import ModelSpec, geometry_of

LENGTH = 2 * WINDOW
TOLERANCE = 1e-3
"""Logits; as in test_patched_as_exported.py: 2.6e-4 rad at position 512, a few units per radian."""

METHODS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 8},
    "ntk_aware": {"factor": 8},
    "yarn": {"factor": 8, "attention_factor": 1.3, "truncate": False},
    "mrrope": {"factor": 8},
}
SERVERS = ("hf", "vllm", "sglang")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    tiny_models.silence()


def logits(model: Any) -> torch.Tensor:
    return tiny_models.logits(model, tiny_models.tokens(length=LENGTH))


def apart(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first - second).abs().max().item()


def asked(config: Any, method: str, length: int = LENGTH, **params: Any) -> Request:
    return request(geometry_of(config), method, params, length, checkpoint_of(config))


def as_exported(name: str, config: Any, changes: Any) -> Any:
    """Stock transformers with the exported keys, through JSON and back."""
    raw = json.loads(json.dumps(patched_config(config.to_dict(), changes)))
    return model_of(name, type(config).from_dict(raw))


@pytest.mark.parametrize("name", SHIPPED)
def test_none_as_a_directory(name: str, tmp_path: Path) -> None:
    model = model_of(name, config_of(name))
    model.save_pretrained(tmp_path / "model")
    found = describe(ModelSpec(id=str(tmp_path / "model")))
    wanted = request(found.geometry, "none", {}, None, found.checkpoint)
    write_directory(found, wanted, ENGINES["hf"].configure(wanted), tmp_path / "out", force=False, proof=lambda _: None)
    again = class_of(model.config).from_pretrained(tmp_path / "out", dtype=torch.float32, attn_implementation="eager")
    assert apart(logits(again), logits(model)) == 0


@pytest.mark.parametrize("name", SHIPPED)
def test_none_beyond_what_ships_in_the_words_of_the_servers(name: str) -> None:
    """There the shipped scaling itself has to be written out."""
    config = config_of(name)
    expected = logits(model_of(name, config))
    for engine in ("vllm", "sglang"):
        try:
            export = ENGINES[engine].configure(asked(config, "none", 2 * config.max_position_embeddings))
        except ExportError:
            continue
        assert apart(logits(as_exported(name, config, export.config)), expected) < TOLERANCE


@pytest.mark.parametrize("name", SHIPPED)
def test_methods(name: str, record_property: Any) -> None:
    config = config_of(name)
    model = model_of(name, unscaled(name, config))
    plain = logits(model)
    worst, written = 0.0, 0
    ran: dict[str, torch.Tensor] = {}
    for method, params in METHODS.items():
        wanted = asked(config, method, **params)
        try:
            with rw.patched(model, wanted.rotation):
                expected = logits(model)
        except ModelError as wrong:
            pytest.skip(f"ropewalk measures no {config.model_type}: {wrong}")
        assert apart(expected, plain) > 50 * TOLERANCE, method
        for engine in SERVERS:
            try:
                export = ENGINES[engine].configure(wanted)
            except ExportError:
                assert engine != "hf"
                continue
            key = json.dumps([method, export.config["rope_parameters"]], sort_keys=True)  # engines often say the same
            ran[key] = ran[key] if key in ran else logits(as_exported(name, config, export.config))
            worst = max(worst, apart(ran[key], expected))
            written += 1
    record_property("max_logit_difference", f"{worst:.1e} of {written} exports")
    assert worst < TOLERANCE


def unscaled(name: str, config: Any) -> Any:
    """The configuration whose softmax scale a method leaves: DeepSeek's belongs to the scaling that it replaces."""
    if config.model_type not in SOFTMAX_MSCALE or "mscale_all_dim" not in config.rope_parameters:
        return config
    kept = {key: value for key, value in config.rope_parameters.items() if key != "mscale_all_dim"}
    return config_of(name, rope_parameters=kept)


@pytest.mark.parametrize("name", ["deepseek_v3", "deepseek_v3 shipping yarn"])
def test_mscale_all_dim_of_yarn_reaches_the_softmax(name: str) -> None:
    """Against transformers' own reading of the same keys."""
    mscales = {"mscale": 0.7, "mscale_all_dim": 0.4}
    config = config_of(name)
    wanted = asked(config, "yarn", 8 * 64, factor=8, original_max_position_embeddings=64, **mscales)
    own = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 64, **mscales}
    expected = logits(model_of(name, config_of(name, rope_parameters=own)))
    for engine in SERVERS:
        assert apart(logits(as_exported(name, config, ENGINES[engine].configure(wanted).config)), expected) < TOLERANCE


def test_a_softmax_scale_alone_is_a_scaling() -> None:
    """Every pair kept and A = 1: still no default."""
    name = "deepseek_v3"
    kept = {"factor": 4.0, "beta_fast": 1e-3, "beta_slow": 5e-4, "attention_factor": 1.0}
    own = {"rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": WINDOW, **kept}
    wanted = asked(config_of(name), "yarn", **kept, mscale=1.0, mscale_all_dim=0.8)
    assert (wanted.rotation.inv_freq == wanted.geometry.unscaled_inv_freq).all()
    expected = logits(model_of(name, config_of(name, rope_parameters=own | {"mscale_all_dim": 0.8})))
    for engine in SERVERS:
        found = as_exported(name, config_of(name), ENGINES[engine].configure(wanted).config)
        assert apart(logits(found), expected) < TOLERANCE


@pytest.mark.parametrize("name", ["ministral3", "mistral4", "deepseek_v3 shipping yarn"])
def test_directories_read_back_as_what_was_asked(name: str, tmp_path: Path) -> None:
    """write_directory refuses a rotation that comes back as another, or with another softmax scale."""
    model_of(name, config_of(name)).save_pretrained(tmp_path / "model")
    found = describe(ModelSpec(id=str(tmp_path / "model")))
    mscales = {"factor": 8, "mscale": 0.7, "mscale_all_dim": 0.4}
    stacked = {"factor": 2, "compose": "stack"}
    for number, (method, params) in enumerate([*METHODS.items(), ("yarn", mscales), ("linear", stacked)]):
        wanted = request(found.geometry, method, params, LENGTH, found.checkpoint)
        out = tmp_path / str(number)
        write_directory(found, wanted, ENGINES["hf"].configure(wanted), out, force=False, proof=lambda _: None)
        assert (out / "config.json").is_file()


def test_shipped_softmax_scale_stays_under_a_stacked_method() -> None:
    name = "deepseek_v3 shipping yarn"
    config = config_of(name)
    model = model_of(name, config)
    wanted = asked(config, "linear", factor=2, compose="stack")
    with rw.patched(model, wanted.rotation):
        expected = logits(model)
    assert apart(logits(as_exported(name, config, ENGINES["hf"].configure(wanted).config)), expected) < TOLERANCE


def test_twin_a_lost_query_temperature_is_noticed() -> None:
    config = config_of("ministral3")
    export = ENGINES["hf"].configure(asked(config, "linear", factor=8)).config
    lost = json.loads(json.dumps(export))
    for rope in (lost["rope_parameters"], lost["rope_scaling"]):
        rope["llama_4_scaling_beta"] = 0.0
    assert apart(logits(as_exported("ministral3", config, lost)), logits(as_exported("ministral3", config, export))) > (
        50 * TOLERANCE
    )
