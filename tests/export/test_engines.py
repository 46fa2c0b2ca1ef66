"""vLLM, SGLang and llama.cpp: the exported command through what these engines are known to do with it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from engine_oracles import llama_cpp, llama_cpp_context, option, sglang, vllm
from export_requests import EXAMPLES, GEOMETRY, LLAMA_3, ask, ask_of, drawn
from hypothesis import given
from method_table import QUICK

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES, Checkpoint, Request
from ropewalk.rope import RopeGeometry, Rotation

SHIPPED = {
    "max_position_embeddings": GEOMETRY.max_position_embeddings,
    "rope_parameters": {"rope_type": "default", "rope_theta": GEOMETRY.rope_theta},
}
LLAMA_3_CONFIG = {
    "max_position_embeddings": LLAMA_3.max_position_embeddings,
    "rope_parameters": {**LLAMA_3.rope_parameters, "rope_theta": LLAMA_3.rope_theta},
}
ORACLES = {"vllm": vllm, "sglang": sglang}
NO_FREQS = np.ones(GEOMETRY.rotary_dim // 2)


def assert_same(found: Rotation, expected: Rotation) -> None:
    np.testing.assert_allclose(found.inv_freq, expected.inv_freq, rtol=1e-9, atol=2e-15)
    assert found.attention_factor == pytest.approx(expected.attention_factor, rel=1e-9)


@pytest.mark.parametrize("engine", ORACLES)
@QUICK
@given(asked=drawn())
def test_served_as_measured(engine: str, asked: tuple[str, dict[str, Any], int]) -> None:
    method, params, length = asked
    wanted = ask(method, length, **params)
    export = ENGINES[engine](wanted)
    found, reach = ORACLES[engine](export.command, SHIPPED, GEOMETRY.rotary_dim)
    assert_same(found, wanted.rotation)
    assert reach >= length
    assert (export.fidelity == "approximated") == bool((wanted.rotation.inv_freq == 0).any())


@pytest.mark.parametrize("engine", ORACLES)
@pytest.mark.parametrize("method", EXAMPLES)
@pytest.mark.parametrize("compose", ["replace", "stack"])
def test_served_over_a_shipped_scaling(engine: str, method: str, compose: str) -> None:
    params = EXAMPLES[method] | ({} if method == "none" else {"compose": compose})
    wanted = ask_of(LLAMA_3, method, 200000, **params)
    export = ENGINES[engine](wanted)
    found, reach = ORACLES[engine](export.command, LLAMA_3_CONFIG, LLAMA_3.rotary_dim)
    assert_same(found, wanted.rotation)
    assert reach >= 200000


def test_a_dropped_factor_would_be_noticed() -> None:
    wanted = ask("yarn", factor=4, attention_factor=1.5)
    command = [word.replace('"attn_factor"', '"attention_factor"') for word in ENGINES["sglang"](wanted).command]
    found, _ = sglang(command, SHIPPED, GEOMETRY.rotary_dim)
    with pytest.raises(AssertionError):
        assert_same(found, wanted.rotation)


def test_commands_word_for_word() -> None:
    yarn = ask("yarn", factor=4)
    assert ENGINES["vllm"](yarn).command[:3] == ("vllm", "serve", "MODEL")
    overrides = json.loads(option(ENGINES["vllm"](yarn).command, "--hf-overrides") or "")
    assert overrides == {
        "max_position_embeddings": 16384,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 500000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
        },
    }
    assert " ".join(ENGINES["llama.cpp"](yarn).command) == (
        "llama-server -m MODEL.gguf --ctx-size 16384 --rope-scaling yarn --rope-scale 4.0 --yarn-orig-ctx 4096 "
        "--yarn-beta-fast 32.0 --yarn-beta-slow 1.0 --override-kv llama.context_length=int:16384"
    )


FLAGS = ("none", "linear", "ntk_aware", "dynamic_ntk", "yarn", "abf")


@QUICK
@given(asked=drawn())
def test_llama_cpp_as_measured(asked: tuple[str, dict[str, Any], int]) -> None:
    method, params, length = asked
    wanted = ask(method, length, **params)
    try:
        command = ENGINES["llama.cpp"](wanted).command
    except ExportError:
        assert method not in FLAGS or params.get("ramp") == "turns" or params.get("truncate") is False
        return
    assert_same(llama_cpp(command, GEOMETRY.rope_theta, NO_FREQS), wanted.rotation)
    assert llama_cpp_context(command, GEOMETRY.max_position_embeddings) == length


@pytest.mark.parametrize("method", [name for name in FLAGS if name != "none"])
def test_llama_cpp_stacks_on_llama_3_files_and_cannot_replace(method: str) -> None:
    freqs = LLAMA_3.unscaled_inv_freq / ask_of(LLAMA_3, "none").rotation.inv_freq
    wanted = ask_of(LLAMA_3, method, 200000, **EXAMPLES[method], compose="stack")
    assert_same(llama_cpp(ENGINES["llama.cpp"](wanted).command, LLAMA_3.rope_theta, freqs), wanted.rotation)
    with pytest.raises(ExportError) as refusal:
        ENGINES["llama.cpp"](ask_of(LLAMA_3, method, 200000, **EXAMPLES[method]))
    assert str(refusal.value) == (
        f"llama.cpp: the file ships llama3, and flags cannot replace it with {method}; use --gguf IN --out OUT, which "
        "writes it into the file, or -p compose=stack, after measuring that."
    )


def on(wanted: Request, **changes: Any) -> Request:
    return dataclasses.replace(wanted, checkpoint=Checkpoint(**changes))


LAYERED = RopeGeometry(rotary_dim=64, rope_theta=1e6, max_position_embeddings=4096, layer_type="full_attention")


@pytest.mark.parametrize(
    ("engine", "wanted", "sentence"),
    [
        (
            "llama.cpp",
            ask("mrrope", factor=2),
            "llama.cpp: has no flags for mrrope (its own are linear, yarn and another base); use --gguf IN --out OUT, "
            "which writes it into the file.",
        ),
        ("llama.cpp", ask("llama3", factor=2), "has no flags for llama3"),
        ("llama.cpp", ask("yarn", factor=2, ramp="turns"), "yarn with ramp turns or truncate false"),
        ("llama.cpp", ask_of(LAYERED, "linear", factor=2), "flags scale every layer of llama, linear only full_atten"),
        ("sglang", on(ask("linear", factor=2), model_type="gemma3_text"), "ignores every scaling of gemma3_text"),
        ("sglang", on(ask("linear", factor=2), nested=True), "keeps its rotation under text_config"),
        ("vllm", on(ask("mrrope", factor=2), model_type="glm4"), "is for Neox-style heads, and glm4 interleaves"),
        ("sglang", on(ask("mrrope", factor=2), model_type="glm4"), "a method that only changes rope_theta"),
    ],
)
def test_refusals(engine: str, wanted: Request, sentence: str) -> None:
    with pytest.raises(ExportError) as refusal:
        ENGINES[engine](wanted)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith(f"{engine}: ")
    assert "\n" not in str(refusal.value)


def test_notes_name_what_an_engine_does_differently() -> None:
    assert any("ignores rope_type dynamic" in note for note in ENGINES["vllm"](ask("dynamic_ntk", factor=2)).notes)
    assert any("multiplies it by factor" in note for note in ENGINES["vllm"](ask("linear", factor=2)).notes)
    assert any("ignores attention_factor" in note for note in ENGINES["sglang"](ask("yarn", factor=2)).notes)
    sharpened = ENGINES["llama.cpp"](ask("yarn", factor=2, attention_factor=1.3)).notes
    assert any("--yarn-attn-factor is overwritten" in note for note in sharpened)
