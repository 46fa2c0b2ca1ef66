"""The exported keys through transformers' own configuration and rotary module.

Budget 5e-6 relative, as in tests/methods/test_method_parity.py: transformers computes in float32.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from export_requests import EXAMPLES, GEOMETRY, LLAMA_3, ask, ask_of, drawn
from hypothesis import given
from method_table import QUICK
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ropewalk.errors import ExportError
from ropewalk.export import Checkpoint, Request, hf, request
from ropewalk.export.checkpoint import checkpoint_of, patched_config
from ropewalk.methods import METHODS
from ropewalk.models import geometry_of
from ropewalk.models.layout import rotary_module
from ropewalk.rope import RopeGeometry, Rotation

RTOL = 5e-6


def llama(config: dict[str, Any]) -> LlamaConfig:
    raw = {
        "hidden_size": 128,
        "num_attention_heads": 2,
        "max_position_embeddings": GEOMETRY.max_position_embeddings,
        "rope_theta": GEOMETRY.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": GEOMETRY.rope_theta},
    }
    return LlamaConfig.from_dict(patched_config(raw, json.loads(json.dumps(config))))


def rotation_of(module: Any, layer_type: str | None = None) -> Rotation:
    prefix = f"{layer_type}_" if layer_type else ""
    inv_freq = getattr(module, f"{prefix}inv_freq").double().numpy()
    return Rotation(inv_freq=inv_freq, attention_factor=float(getattr(module, f"{prefix}attention_scaling", 1.0)))


def assert_same(found: Rotation, expected: Rotation) -> None:
    np.testing.assert_allclose(found.inv_freq, expected.inv_freq, rtol=RTOL, atol=2e-15)
    assert found.attention_factor == pytest.approx(expected.attention_factor, rel=RTOL)


def test_every_method_has_an_example() -> None:
    more_than_rotations = {"truncate", "tuned", "rerope", "leaky_rerope", "self_extend", "dca", "string", "jet_long"}
    more_than_rotations |= {"bifocal", "streaming"}
    assert EXAMPLES.keys() == METHODS.keys() - more_than_rotations


@QUICK
@given(drawn())
def test_transformers_rotates_as_measured(asked: tuple[str, dict[str, Any], int]) -> None:
    method, params, length = asked
    wanted = ask(method, length, **params)
    config = llama(dict(hf.configure(wanted).config))
    module = LlamaRotaryEmbedding(config)
    assert_same(rotation_of(module), wanted.rotation)
    module(torch.zeros(1, 1), torch.tensor([[0, 5 * length]]))  # nothing switches, however long the prompt
    assert_same(rotation_of(module), wanted.rotation)


@pytest.mark.parametrize("without", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("method", sorted(set(EXAMPLES) - {"none"}))
def test_either_form_of_the_keys_is_enough(method: str, without: str) -> None:
    wanted = ask(method, 8192, **EXAMPLES[method])
    config = dict(hf.configure(wanted).config)
    assert {"rope_parameters", "rope_scaling", "rope_theta"} <= config.keys()
    raw = {"hidden_size": 128, "num_attention_heads": 2, **config}
    del raw[without]
    assert_same(rotation_of(LlamaRotaryEmbedding(LlamaConfig.from_dict(raw))), wanted.rotation)


def test_twin_a_thousandth_off_is_noticed() -> None:
    wanted = ask("linear", factor=4)
    config = json.loads(json.dumps(dict(hf.configure(wanted).config)))
    config["rope_parameters"]["factor"] = config["rope_scaling"]["factor"] = 4.004
    with pytest.raises(AssertionError):
        assert_same(rotation_of(LlamaRotaryEmbedding(llama(config))), wanted.rotation)


SMALLER = {"gemma4": {"vocab_size_per_layer_input": 128}}


def of_architecture(architecture: str, method: str, length: int) -> Request:
    config = tiny_models.config_of(architecture, **SMALLER.get(architecture, {}))
    geometry = geometry_of(config)
    return request(geometry, method, fitted(method, geometry), length, checkpoint_of(config))


def fitted(method: str, geometry: RopeGeometry) -> dict[str, Any]:
    """The example; a list of divisors as long as this geometry needs."""
    if method != "searched":
        return EXAMPLES[method]
    divisors = [1 + i / 8 for i in range(geometry.rotary_dim // 2)]
    return {"file": EXAMPLES[method]["file"] | {"rope_theta": geometry.rope_theta, "lambda": divisors}}


FORMLESS = ("longrope", "mrrope", "searched", "cope", "ntk_fixed", "ntk_mixed", "resonance")
"""Methods that go out as longrope alone."""


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_every_architecture_reads_its_form(architecture: str) -> None:
    """Partial and per-layer rotations, Phi-3's own rules; the fingerprint comes back."""
    plain = tiny_models.config_of(architecture, **SMALLER.get(architecture, {}))
    for method in EXAMPLES:
        wanted = of_architecture(architecture, method, 1024)
        if architecture == "gemma4" and method in FORMLESS:
            with pytest.raises(ExportError, match=f"reads no longrope for gemma4_text.*{method} has no other name"):
                hf.configure(wanted)
            continue
        export = hf.configure(wanted)
        raw = json.loads(json.dumps(patched_config(plain.to_dict(), export.config)))
        config = type(plain).from_dict(raw)
        model = tiny_models._class_of(architecture)(config)
        found = rotation_of(rotary_module(model), wanted.geometry.layer_type)
        assert_same(found, wanted.rotation)
        if export.fidelity == "exact":
            again = request(geometry_of(config), "none", {}, 1024, Checkpoint())
            assert again.rotation.fingerprint == wanted.rotation.fingerprint, method


def test_other_layers_stay_as_they_ship() -> None:
    wanted = of_architecture("gemma3", "yarn", 1024)
    found = hf.configure(wanted).config
    assert found["rope_parameters"]["sliding_attention"]["rope_type"] == "default"
    assert found["rope_parameters"]["full_attention"]["rope_type"] == "yarn"
    assert found["rope_local_base_freq"] == 10000.0


def test_multimodal_keys_are_nested() -> None:
    asked = request(GEOMETRY, "linear", {"factor": 2}, None, Checkpoint(nested=True))
    config = hf.configure(asked).config
    assert list(config) == ["text_config"]
    merged = patched_config({"text_config": {"hidden_size": 8}, "vision_config": {}}, config)
    assert (merged["text_config"]["hidden_size"], merged["vision_config"]) == (8, {})
    assert merged["text_config"]["rope_parameters"]["factor"] == 2.0


def test_stack_goes_out_as_measured_over_a_shipped_scaling() -> None:
    wanted = ask_of(LLAMA_3, "yarn", factor=2, compose="stack")
    assert wanted.length == 2 * 131072
    config = hf.configure(wanted).config
    assert config["rope_parameters"]["rope_type"] == "longrope"
    assert_same(rotation_of(LlamaRotaryEmbedding(llama(dict(config)))), wanted.rotation)


def test_what_is_resolved_says_so() -> None:
    assert "its rotation for 16384 tokens" in hf.configure(ask("yarn", 16384, factor="auto")).notes[0]
    assert "its rotation for 16384 tokens" in hf.configure(ask("dynamic_ntk", 16384, factor=2)).notes[0]
    assert hf.configure(ask("yarn", factor=2)).notes == ()
    assert hf.configure(ask("none")).config == {}


def test_windows() -> None:
    config = hf.configure(ask("yarn", factor=4, original_max_position_embeddings=2048)).config
    assert config["max_position_embeddings"] == 8192
    assert config["rope_parameters"]["original_max_position_embeddings"] == 2048


@pytest.mark.parametrize(
    ("method", "params", "sentence"),
    [
        ("truncate", {}, "send only the last 2048 tokens"),
        ("abf", {"rope_theta": 1e6}, "abf: has no factor that says for which length; give --length, in tokens."),
        ("yarn", {"factor": "auto"}, "yarn: factor='auto' does not say for which length; give --length"),
    ],
)
def test_refusals(method: str, params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ExportError) as refusal:
        ask(method, **params)
    assert sentence in str(refusal.value)
