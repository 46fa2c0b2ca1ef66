"""What a configuration ships, wherever its keys stand: the rotation that the stock rotary module hands to its layers.

Every rope_type of transformers, under its names of version 4 and 5, with the trained window among the scaling's keys,
beside them, in both places or in none, for architectures that read their configurations differently.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from tiny_models import SMALL, logits, model_of, tokens

from ropewalk.errors import ModelError
from ropewalk.methods.none import shipped
from ropewalk.models import ModelSpec, geometry_of, load, patched, read_geometry
from ropewalk.models.as_shipped import check_shipped
from ropewalk.rope import Rotation, Window

KEY = "original_max_position_embeddings"
MLA = {"qk_rope_head_dim": 16, "qk_nope_head_dim": 8, "v_head_dim": 16, "kv_lora_rank": 8, "q_lora_rank": 8}
LAYERED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
EXPERTS = {"num_local_experts": 2, "n_routed_experts": 2, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 1}

# model_type: (what differs from SMALL, pairs, whether scalings are kept per layer type)
MODELS: dict[str, tuple[dict[str, Any], int, bool]] = {
    "llama": ({}, 8, False),
    "qwen2": ({}, 8, False),
    "qwen3": ({"head_dim": 32}, 16, False),
    "mistral": ({"head_dim": 32}, 16, False),
    "hunyuan_v1_dense": ({"head_dim": 16}, 8, False),
    "glm4": ({"head_dim": 32, "partial_rotary_factor": 0.5}, 8, False),
    "gpt_neox": ({"rotary_pct": 0.5}, 4, False),
    "phi3": ({"partial_rotary_factor": 0.75}, 6, False),
    "deepseek_v3": ({**MLA, **EXPERTS}, 8, False),
    "ministral3": ({"head_dim": 32}, 16, False),
    "gpt_oss": ({"head_dim": 32, **EXPERTS}, 16, False),
    "gemma3_text": ({"head_dim": 32, **LAYERED}, 16, True),
    "olmo3": (LAYERED, 8, True),
}

HALF_WIDTH = {"gpt_oss"}

BOUNDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
# name: (rope_type, its other keys)
SCALINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("default", {}),
    "linear": ("linear", {"factor": 4.0}),
    "dynamic": ("dynamic", {"factor": 2.0}),
    "dynamic with alpha": ("dynamic", {"factor": 1.0, "alpha": 50.0}),  # HunYuan alone reads it
    "llama3": ("llama3", {"factor": 8.0, **BOUNDS}),
    "proportional": ("proportional", {"partial_rotary_factor": 0.5, "factor": 2.0}),
    "yarn": ("yarn", {"factor": 4.0}),
    "yarn by the ratio of windows": ("yarn", {"factor": None}),
    "yarn with bounds": ("yarn", {"factor": 4.0, "beta_fast": 8.0, "beta_slow": 2.0, "truncate": False}),
    "yarn with attention_factor": ("yarn", {"factor": 4.0, "attention_factor": 1.25, "mscale": 2.0}),
    "yarn with mscale alone": ("yarn", {"factor": 4.0, "mscale": 0.5}),
    "yarn with mscale_all_dim alone": ("yarn", {"factor": 4.0, "mscale_all_dim": 0.5}),
    "yarn with both": ("yarn", {"factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.5}),
    "longrope": ("longrope", {"factor": 4.0}),
    "longrope by the ratio of windows": ("longrope", {}),
    "longrope with attention_factor": ("longrope", {"factor": 4.0, "attention_factor": 1.25}),
}
PLACES = {  # beside the scaling, among its keys
    "nowhere": (None, None),
    "beside": (64, None),
    "among": (None, 64),
    "both": (64, 64),
    "contradicting": (64, 128),
}
LENGTHS = (48, 200, 700)
VARYING = ("dynamic", "longrope")
RTOL = 5e-6  # float32 frequencies against float64, see test_method_parity


def config_jsons(model_type: str, scaling: str, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """config.json in the words of transformers 5, and of 4 with both names of a type."""
    differences, pairs, layered = MODELS[model_type]
    rope_type, keys = SCALINGS[scaling]
    if rope_type == "longrope":
        keys = keys | {
            "short_factor": np.linspace(1, 2, pairs).tolist(),
            "long_factor": np.linspace(1, 9, pairs).tolist(),
        }
    beside, among = PLACES[place]
    keys = keys | ({} if among is None else {KEY: among})
    plain = {**SMALL, **differences} | ({} if beside is None else {KEY: beside})
    flat = {"rope_type": rope_type, "rope_theta": 5000.0, **keys}
    if model_type == "gpt_neox":
        flat["partial_rotary_factor"] = keys.get("partial_rotary_factor", plain["rotary_pct"])
    nested = {"full_attention": flat, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}
    yield "v5", plain | {"rope_parameters": nested if layered else flat}
    if model_type == "gpt_oss":  # no checkpoint of transformers 4 is without its scaling
        return
    theta = "rotary_emb_base" if model_type == "gpt_neox" else "rope_theta"
    for name in ("type", "rope_type") if not layered else ("rope_type",):  # `type` loses to the default's rope_type
        yield f"v4 {name}", plain | {theta: 5000.0, "rope_scaling": {name: rope_type, **keys}}


@functools.cache
def rotary_class(model_type: str) -> Any:
    config = transformers.AutoConfig.for_model(model_type, **{**SMALL, **MODELS[model_type][0]})
    with torch.device("meta"):
        return type(transformers.AutoModelForCausalLM.from_config(config).get_decoder().rotary_emb)


def stock_rotation(config: Any, length: int, layer_type: str | None) -> Rotation:
    """The rotation of a pass of so many tokens, out of cos and sin at position 1, where no angle is over 1."""
    args = () if layer_type is None else (layer_type,)
    out = rotary_class(config.model_type)(config)(torch.zeros(1, 1), torch.arange(length)[None], *args)
    once = 1 if config.model_type in HALF_WIDTH else 2  # others write every frequency twice
    cos, sin = (part[0, 1, : part.shape[-1] // once].double().numpy() for part in out)
    return Rotation(inv_freq=np.arctan2(sin, cos), attention_factor=float(np.hypot(sin, cos).mean()))


def takes(model_type: str, scaling: str) -> bool:
    """Phi-3 takes longrope alone, and reads yarn as longrope."""
    return model_type != "phi3" or SCALINGS[scaling][0] in ("default", "longrope")


CASES = [case for case in itertools.product(MODELS, SCALINGS) if takes(*case)]


@pytest.mark.parametrize(("model_type", "scaling"), CASES)
def test_shipped_rotation_is_what_the_stock_module_hands_out(model_type: str, scaling: str) -> None:
    tiny_models.silence()
    for place in PLACES:
        for words, values in config_jsons(model_type, scaling, place):
            config = transformers.AutoConfig.for_model(model_type, **json.loads(json.dumps(values)))
            geometry = geometry_of(config)  # before a model is built from it, as `inspect` and `plan` read it
            for length in LENGTHS if SCALINGS[scaling][0] in VARYING else LENGTHS[:1]:
                ours, stock = shipped(geometry, length), stock_rotation(config, length, geometry.layer_type)
                where = f"{words}, window {place}, {length} tokens"
                np.testing.assert_allclose(ours.inv_freq, stock.inv_freq, rtol=RTOL, atol=0, err_msg=where)
                np.testing.assert_allclose(ours.attention_factor, stock.attention_factor, rtol=RTOL, err_msg=where)
            assert geometry_of(config) == geometry, "building a module changes what is read"


YARN_BESIDE = {"rope_theta": 1e4, "rope_scaling": {"type": "yarn", "factor": 4.0}, KEY: 64}


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral"])
def test_none_is_the_stock_model_where_the_window_stands_beside_the_scaling(architecture: str, tmp_path: Path) -> None:
    tiny_models.silence()
    plain = model_of(architecture)
    values = {**plain.config.to_dict(), **YARN_BESIDE}
    del values["rope_parameters"]
    plain.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    geometry = read_geometry(ModelSpec.parse(str(tmp_path)))
    assert geometry.window("replace") == Window(length=64, source=KEY)
    assert geometry.window("stack").length == 256
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = tokens(length=200)
    expected = logits(stock, ids)
    with patched(stock, shipped(geometry, 200)):
        assert (logits(stock, ids) - expected).abs().max() < 1e-4  # float64 against float32 frequencies, 200 positions
    read_from_256 = {"rope_type": "yarn", "factor": 4.0, KEY: 256}
    with patched(stock, shipped(dataclasses.replace(geometry, rope_parameters=read_from_256, **{KEY: None}), 200)):
        assert (logits(stock, ids) - expected).abs().max() > 0.1


@pytest.mark.parametrize("rope_type", ["default", "linear", "dynamic"])
def test_a_window_beside_a_scaling_that_needs_none_is_what_methods_scale_from(rope_type: str) -> None:
    """Edit the type into yarn, and transformers scales from it."""
    rope = {"rope_type": rope_type, "factor": 2.0, "rope_theta": 1e4, KEY: 128}
    config = transformers.LlamaConfig(**SMALL, rope_parameters=rope, **{KEY: 64})
    assert geometry_of(config).window("replace").length == 64
    config.rope_parameters = rope | {"rope_type": "yarn"}
    config.standardize_rope_params()
    assert config.rope_parameters[KEY] == 64


@pytest.mark.parametrize("theta", ["10000", True, [10000.0], float("inf")])
@pytest.mark.parametrize("place", ["beside", "among"])
def test_a_base_that_is_no_number_is_refused(theta: Any, place: str) -> None:
    """transformers raises a TypeError when it builds such a model."""
    rope = {"rope_type": "default"} | ({"rope_theta": theta} if place == "among" else {})
    config = transformers.LlamaConfig(
        **SMALL, rope_parameters=rope, **({} if rope.get("rope_theta") else {"rope_theta": theta})
    )
    message = rf"^LlamaConfig has rope_theta={re.escape(repr(theta))}, which is no number; write one in config.json\.$"
    with pytest.raises(ModelError, match=message):
        geometry_of(config)


@pytest.mark.parametrize("window", ["auto", True, 64.5, float("nan"), float("inf")])
def test_a_trained_window_that_is_no_number_is_refused(window: Any) -> None:
    config = transformers.LlamaConfig(**SMALL, rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    config.rope_parameters = config.rope_parameters | {KEY: window}
    message = rf"^LlamaConfig has {KEY}={re.escape(repr(window))}, which is no number of tokens; write one in config"
    with pytest.raises(ModelError, match=message):
        geometry_of(config)


@pytest.mark.parametrize("factor", ["nan", "0.5", True, float("inf"), 10**400])
def test_a_rotated_share_that_is_no_number_is_refused(factor: Any) -> None:
    config = transformers.LlamaConfig(**SMALL, rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    config.rope_parameters = config.rope_parameters | {"partial_rotary_factor": factor}
    with pytest.raises(ModelError, match=r"^partial_rotary_factor=\S+ in its configuration cannot be; mend its config"):
        geometry_of(config)


@pytest.mark.parametrize("spoil", ["inv_freq", "attention_scaling"])
def test_a_model_that_runs_another_rotation_than_is_read_is_refused(spoil: str) -> None:
    model = model_of("llama")
    geometry, module = geometry_of(model.config), model.model.rotary_emb
    check_shipped(model, geometry)
    setattr(module, spoil, getattr(module, spoil) * 1.001)
    message = (
        r"^LlamaRotaryEmbedding turns 8 pairs by 1(\.001)? to .* rad/token with A = 1(\.001)?, where its configuration "
        r"reads as 8 pairs by 1 to .* rad/token with A = 1; ropewalk measures no such model yet\.$"
    )
    with pytest.raises(ModelError, match=message):
        check_shipped(model, geometry)


def test_a_share_of_pairs_that_the_architecture_ignores_is_refused(tmp_path: Path) -> None:
    """Llama's rotary module turns whole heads whatever partial_rotary_factor says."""
    tiny_models.silence()
    model = model_of("llama", rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5})
    model.save_pretrained(tmp_path)
    tiny_models.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"^LlamaRotaryEmbedding turns 8 pairs by .* reads as 4 pairs by "):
        load(ModelSpec.parse(str(tmp_path)), dtype="float32")
