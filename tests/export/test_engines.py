"""vLLM, SGLang and llama.cpp: the exported command through what these engines are known to do with it."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from engine_oracles import (
    deepseek_yarn,
    llama_cpp,
    llama_cpp_context,
    merged,
    option,
    served,
    sglang,
    sglang_yarn,
    vllm,
    vllm_yarn,
    vllm_yarn_before,
)
from export_requests import EXAMPLES, GEOMETRY, LLAMA_3, ask, ask_of, drawn
from hypothesis import given
from method_table import QUICK

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES, Checkpoint, Request, request
from ropewalk.export.native import change
from ropewalk.rope import RopeGeometry, Rotation

SHIPPED = {
    "max_position_embeddings": GEOMETRY.max_position_embeddings,
    "rope_parameters": {"rope_type": "default", "rope_theta": GEOMETRY.rope_theta},
}
LLAMA_3_CONFIG = {
    "max_position_embeddings": LLAMA_3.max_position_embeddings,
    "rope_parameters": {**LLAMA_3.rope_parameters, "rope_theta": LLAMA_3.rope_theta},
}


def on(wanted: Request, **changes: Any) -> Request:
    return dataclasses.replace(wanted, checkpoint=Checkpoint(**changes))


LAYERED = RopeGeometry(rotary_dim=64, rope_theta=1e6, max_position_embeddings=4096, layer_type="full_attention")


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
    export = ENGINES[engine].configure(wanted)
    found, reach = ORACLES[engine](export.command, SHIPPED, GEOMETRY.rotary_dim)
    assert_same(found, wanted.rotation)
    assert reach >= length
    assert (export.fidelity == "approximated") == bool((wanted.rotation.inv_freq == 0).any())


@pytest.mark.parametrize("engine", ORACLES)
@pytest.mark.parametrize("method", EXAMPLES)
@pytest.mark.parametrize("compose", ["replace", "stack"])
@pytest.mark.parametrize("length", [32768, 200000])
def test_served_over_a_shipped_scaling(engine: str, method: str, compose: str, length: int) -> None:
    """Inside and beyond factor x window, where linear and yarn go out by name and not."""
    params = EXAMPLES[method] | ({} if method == "none" else {"compose": compose})
    wanted = ask_of(LLAMA_3, method, length, **params)
    export = ENGINES[engine].configure(wanted)
    found, reach = ORACLES[engine](export.command, LLAMA_3_CONFIG, LLAMA_3.rotary_dim)
    assert_same(found, wanted.rotation)
    assert reach >= length


UNROUNDED = {"truncate": False, "beta_fast": 20.0}
TWO_MSCALES = {"mscale": 1.0, "mscale_all_dim": 0.5, "extrapolation_factor": 0.5, "attn_factor": 1.2}


@pytest.mark.parametrize("engine", ORACLES)
@pytest.mark.parametrize("method", EXAMPLES)
@pytest.mark.parametrize("more", [UNROUNDED, TWO_MSCALES], ids=["truncate", "mscale"])
@pytest.mark.parametrize("length", [16384, 100000])
def test_what_a_shipped_yarn_says_does_not_survive(engine: str, method: str, more: dict[str, Any], length: int) -> None:
    """gpt-oss ships truncate false, DeepSeek and Ministral two mscales; `none` is the checkpoint itself."""
    if method == "none":
        return
    yarn = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096, **more}
    geometry = dataclasses.replace(
        GEOMETRY, max_position_embeddings=65536, original_max_position_embeddings=4096, rope_parameters=yarn
    )
    config = {"max_position_embeddings": 65536, "rope_parameters": {**yarn, "rope_theta": GEOMETRY.rope_theta}}
    wanted = ask_of(geometry, method, length, **EXAMPLES[method])
    found, reach = ORACLES[engine](ENGINES[engine].configure(wanted).command, config, geometry.rotary_dim)
    assert_same(found, wanted.rotation)
    assert reach >= length


def test_temperature_of_yarn_under_every_name() -> None:
    """The same A for both engines, for vLLM before attention_factor, and for SGLang's transformers back end."""
    wanted = ask("yarn", factor=4, attention_factor=1.5, truncate=False)
    for engine, name in (("vllm", "--hf-overrides"), ("sglang", "--json-model-override-args")):
        rope = json.loads(option(ENGINES[engine].configure(wanted).command, name) or "")["rope_parameters"]
        assert (rope["rope_type"], rope["truncate"], rope["attention_factor"]) == ("yarn", False, 1.5)
        assert vllm_yarn(rope) == pytest.approx(1.5, rel=1e-12)
        assert vllm_yarn_before(rope) == pytest.approx(1.5, rel=1e-12)
        assert sglang_yarn(rope) == pytest.approx(1.5, rel=1e-12)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_yarn_goes_by_name_where_longrope_cannot(engine: str) -> None:
    """Interleaved heads and mrope sections; linear and llama3 know no sections either."""
    params = {"factor": 4, "attention_factor": 1.5, "truncate": False}
    wanted = on(ask("yarn", **params), model_type="cohere2")
    found, _ = ORACLES[engine](ENGINES[engine].configure(wanted).command, SHIPPED, GEOMETRY.rotary_dim)
    assert_same(found, wanted.rotation)
    sections = {"rope_type": "default", "mrope_section": [8, 12, 12], "mrope_interleaved": True}
    geometry = dataclasses.replace(GEOMETRY, rope_parameters=sections)
    config = ENGINES[engine].configure(ask_of(geometry, "yarn", **params)).config["rope_parameters"]
    assert (config["rope_type"], config["mrope_section"]) == ("yarn", [8, 12, 12])
    for method in ("linear", "llama3", "mrrope"):
        with pytest.raises(ExportError, match=f"{engine}: cannot run {method} .* knows no mrope_section, which llama"):
            ENGINES[engine].configure(ask_of(geometry, method, factor=4))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_deepseek_reads_every_scaling_as_its_own_yarn(engine: str) -> None:
    wanted = on(ask("yarn", factor=4, mscale=0.7, mscale_all_dim=0.5), model_type="deepseek_v3")
    rope = ENGINES[engine].configure(wanted).config["rope_parameters"]
    temperature, softmax = deepseek_yarn(rope)
    assert temperature == pytest.approx(wanted.rotation.attention_factor, rel=1e-12)
    assert softmax == pytest.approx((0.05 * math.log(4) + 1) ** 2, rel=1e-12)
    for method, params in (("linear", {}), ("llama3", {}), ("mrrope", {}), ("yarn", {"truncate": False})):
        with pytest.raises(ExportError, match="reads every scaling of deepseek_v32 as yarn"):
            ENGINES[engine].configure(on(ask(method, factor=4, **params), model_type="deepseek_v32"))
    with pytest.raises(ExportError, match="what it makes of a scaling of mistral4 is not known"):
        ENGINES[engine].configure(on(ask("yarn", factor=4), model_type="mistral4"))
    assert ENGINES[engine].configure(on(ask("ntk_aware", factor=4), model_type="minicpm3")).fidelity == "exact"


MINISTRAL = dataclasses.replace(
    GEOMETRY,
    max_position_embeddings=65536,
    original_max_position_embeddings=4096,
    rope_parameters={
        "rope_type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 4096,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.1,
    },
)


@pytest.mark.parametrize("engine", ["hf", "vllm", "sglang"])
@pytest.mark.parametrize("method", EXAMPLES)
@pytest.mark.parametrize("own", [None, 2048])
def test_query_temperature_goes_along(engine: str, method: str, own: int | None) -> None:
    """Under every method, and with the window that it counts from, whatever window the method has."""
    if method == "none":
        return
    wanted = ask_of(MINISTRAL, method, 131072, **EXAMPLES[method], original_max_position_embeddings=own)
    config = ENGINES[engine].configure(wanted).config
    assert config["rope_parameters"]["llama_4_scaling_beta"] == 0.1
    assert config["rope_parameters"]["original_max_position_embeddings"] == 4096
    if engine == "vllm":
        assert config["llama_4_scaling"] == {"beta": 0.1, "original_max_position_embeddings": 4096}
    if engine in ORACLES:
        shipped = {"max_position_embeddings": 65536, "rope_parameters": {**MINISTRAL.rope_parameters}}
        found, reach = ORACLES[engine](ENGINES[engine].configure(wanted).command, shipped, GEOMETRY.rotary_dim)
        assert_same(found, wanted.rotation)
        assert reach >= 131072


@pytest.mark.parametrize("nested", [False, True])
def test_query_temperature_of_a_checkpoint_as_it_ships_is_told_to_vllm(nested: bool) -> None:
    """It reads none in rope_parameters, so that a bare line would run without."""
    asked = ask_of(MINISTRAL, "none", 65536)
    asked = dataclasses.replace(asked, checkpoint=dataclasses.replace(asked.checkpoint, nested=nested))
    told = {"llama_4_scaling": {"beta": 0.1, "original_max_position_embeddings": 4096}}
    export = ENGINES["vllm"].configure(asked)
    assert export.config == ({"text_config": told} if nested else told)
    assert json.loads(export.command[export.command.index("--hf-overrides") + 1]) == export.config


def test_query_temperature_has_one_window_with_two_lists() -> None:
    lists = {"long_factor": [1.5] * 32, "short_factor": [1.0] * 32, "factor": 4}
    wanted = ask_of(MINISTRAL, "longrope", 16384, **lists)
    assert ENGINES["hf"].configure(wanted).config["rope_parameters"]["original_max_position_embeddings"] == 4096
    with pytest.raises(ExportError, match="another beyond: the model's query temperature counts from 4096 under the"):
        ENGINES["hf"].configure(ask_of(MINISTRAL, "longrope", 16384, **lists, original_max_position_embeddings=2048))


def test_query_temperature_keeps_its_window_in_a_file() -> None:
    """llama.cpp counts it from the same key as yarn's window."""
    key = "rope.scaling.original_context_length"
    for method in ("linear", "ntk_aware", "yarn"):
        assert change(ask_of(MINISTRAL, method, factor=4), "mistral3").metadata[key] == 4096
    own = {"factor": 4, "original_max_position_embeddings": 2048}
    assert change(ask_of(MINISTRAL, "linear", **own), "mistral3").metadata[key] == 4096
    with pytest.raises(ExportError, match="temperature counts from 4096 tokens under the key that yarn needs for its"):
        change(ask_of(MINISTRAL, "yarn", **own), "mistral3")


@pytest.mark.parametrize("engine", ENGINES)
def test_fewer_tokens_than_ship_are_said(engine: str) -> None:
    plain = dataclasses.replace(LLAMA_3, rope_parameters={"rope_type": "linear", "factor": 32.0})
    notes = ENGINES[engine].configure(ask_of(plain, "linear", factor=4)).notes
    assert notes[0] == (
        "Warning: 32768 tokens are fewer than the 131072 that the checkpoint ships (rope_type linear); to serve those, "
        "export none, or more with a greater factor or length."
    )
    for length, method, params in ((131072, "linear", {"factor": 16}), (8192, "none", {})):
        found = ENGINES[engine].configure(ask_of(plain, method, length, **params)).notes
        assert not any("fewer" in note for note in found)


def test_gemma_3_is_scaled_by_layer_type_in_sglang() -> None:
    """The other layers stay as they ship; every key of the scaled ones is named, so that none survives a merge."""
    shipped = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    }
    geometry = dataclasses.replace(LAYERED, rope_parameters=shipped["full_attention"])
    checkpoint = Checkpoint(model_type="gemma3_text", layers=shipped)
    wanted = request(geometry, "yarn", {"factor": 4}, None, checkpoint)
    override = json.loads(option(ENGINES["sglang"].configure(wanted).command, "--json-model-override-args") or "")
    rope = merged({"rope_parameters": shipped}, override)["rope_parameters"]
    assert rope["sliding_attention"] == shipped["sliding_attention"]
    assert_same(served(rope["full_attention"], 64, 16384, sglang_yarn(rope["full_attention"])), wanted.rotation)
    assert override["max_position_embeddings"] == 16384


def test_commands_word_for_word() -> None:
    yarn = ask("yarn", factor=4)
    assert ENGINES["vllm"].configure(yarn).command[:3] == ("vllm", "serve", "MODEL")
    overrides = json.loads(option(ENGINES["vllm"].configure(yarn).command, "--hf-overrides") or "")
    assert overrides == {
        "max_position_embeddings": 16384,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 500000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "attention_factor": pytest.approx(1.138629, abs=1e-6),
            "attn_factor": pytest.approx(1.0, abs=1e-12),
            "truncate": True,
        },
    }
    assert " ".join(ENGINES["llama.cpp"].configure(yarn).command) == (
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
        command = ENGINES["llama.cpp"].configure(wanted).command
    except ExportError:
        assert method not in FLAGS or params.get("ramp") == "turns" or params.get("truncate") is False
        return
    assert_same(llama_cpp(command, GEOMETRY.rope_theta, NO_FREQS), wanted.rotation)
    assert llama_cpp_context(command, GEOMETRY.max_position_embeddings) == length


@pytest.mark.parametrize("method", [name for name in FLAGS if name != "none"])
def test_llama_cpp_stacks_on_llama_3_files_and_cannot_replace(method: str) -> None:
    freqs = LLAMA_3.unscaled_inv_freq / ask_of(LLAMA_3, "none").rotation.inv_freq
    wanted = ask_of(LLAMA_3, method, 200000, **EXAMPLES[method], compose="stack")
    assert_same(llama_cpp(ENGINES["llama.cpp"].configure(wanted).command, LLAMA_3.rope_theta, freqs), wanted.rotation)
    with pytest.raises(ExportError) as refusal:
        ENGINES["llama.cpp"].configure(ask_of(LLAMA_3, method, 200000, **EXAMPLES[method]))
    assert str(refusal.value) == (
        f"llama.cpp: the file ships llama3, and flags cannot replace it with {method}; use --gguf IN --out OUT, which "
        "writes it into the file, or -p compose=stack, after measuring that."
    )


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
        ("sglang", on(ask_of(LAYERED, "linear", factor=2), model_type="olmo3"), "under layer type full_attention, whe"),
        ("sglang", on(ask("linear", factor=2), nested=True), "keeps its rotation under text_config"),
        ("vllm", on(ask("mrrope", factor=2), model_type="glm4"), "is for Neox-style heads, and glm4 interleaves"),
        ("sglang", on(ask("mrrope", factor=2), model_type="glm4"), "a method that only changes rope_theta"),
    ],
)
def test_refusals(engine: str, wanted: Request, sentence: str) -> None:
    with pytest.raises(ExportError) as refusal:
        ENGINES[engine].configure(wanted)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith(f"{engine}: ")
    assert "\n" not in str(refusal.value)


def test_notes_name_what_an_engine_does_differently() -> None:
    assert any(
        "dynamic with a factor to begin" in note
        for note in ENGINES["vllm"].configure(ask("dynamic_ntk", factor=2)).notes
    )
    assert any("multiplies it by factor" in note for note in ENGINES["vllm"].configure(ask("linear", factor=2)).notes)
    assert any("ignores attention_factor" in note for note in ENGINES["sglang"].configure(ask("yarn", factor=2)).notes)
    sharpened = ENGINES["llama.cpp"].configure(ask("yarn", factor=2, attention_factor=1.3)).notes
    assert any("--yarn-attn-factor is overwritten" in note for note in sharpened)
