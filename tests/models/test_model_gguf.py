"""A GGUF file runs with the rotation that llama.cpp would give it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tiny_models import SMALL, VOCABULARY, WINDOW, logits, model_of, tokens

from ropewalk.errors import ModelError
from ropewalk.methods import make_params, resolve
from ropewalk.models import ModelSpec, load, patched, read_geometry
from ropewalk.models import gguf as reading
from ropewalk.models.builtin import _smollm2_gguf
from ropewalk.models.gguf import Header, rope_parameters
from ropewalk.models.size import read_size

HEADS, KEY_HEADS, HEAD_DIM = SMALL["num_attention_heads"], SMALL["num_key_value_heads"], 16
LAMBDAS = np.linspace(1.0, 8.0, HEAD_DIM // 2).astype(np.float32)
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
}


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp rotates neighbouring dimensions, so its files hold the two halves of each head interleaved."""
    halves = weight.reshape(heads, 2, HEAD_DIM // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def write_gguf(path: Path, *, lambdas: np.ndarray | None = None, pre: str = "smollm") -> Path:
    """The tiny Llama as a GGUF file with a byte-level vocabulary."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(SMALL["num_hidden_layers"])
    writer.add_context_length(WINDOW)
    writer.add_embedding_length(SMALL["hidden_size"])
    writer.add_feed_forward_length(SMALL["intermediate_size"])
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(50000.0)
    writer.add_vocab_size(VOCABULARY)
    words = ["Ġ", "ĠĠ", "Ċ", "ĊĊ", *map(chr, range(33, 33 + VOCABULARY - 4))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.NORMAL] * VOCABULARY)
    writer.add_token_merges(["Ġ Ġ", "Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    for name, tensor in model_of("llama").state_dict().items():
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        weight = tensor.numpy()
        if "attn_q" in name or "attn_k" in name:
            weight = interleaved(weight, HEADS if "attn_q" in name else KEY_HEADS)
        writer.add_tensor(name, weight)
    if lambdas is not None:
        writer.add_tensor("rope_freqs.weight", lambdas)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_file_is_loaded_with_the_rotation_of_its_rope_freqs(tmp_path: Path, capfd: Any) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", lambdas=LAMBDAS)
    loaded = load(ModelSpec(id=str(path)), dtype="float32", device="cpu")
    assert capfd.readouterr() == ("", "")
    assert loaded.geometry == read_geometry(ModelSpec(id=str(path)))
    assert loaded.geometry.rope_parameters["rope_type"] == "longrope"
    shipped = resolve(loaded.geometry, "none", make_params("none", {}), 4 * WINDOW).rotation
    np.testing.assert_allclose(shipped.inv_freq, loaded.geometry.unscaled_inv_freq / LAMBDAS, rtol=1e-12)
    assert shipped.attention_factor == 1.0

    twin, ids = model_of("llama"), tokens()
    with patched(twin, shipped):
        expected = logits(twin, ids)
    assert (logits(loaded.model, ids) - expected).abs().max() < 1e-4  # the stock module runs lambda too
    with patched(loaded.model, shipped):
        assert (logits(loaded.model, ids) - expected).abs().max() < 1e-4
    assert (logits(twin, ids) - expected).abs().max() > 0.1  # which is not what transformers alone would run


def test_file_is_plain_weights_afterwards(tmp_path: Path) -> None:
    loaded = load(ModelSpec(id=str(write_gguf(tmp_path / "tiny.gguf"))), dtype="float32", device="cpu")
    assert not hasattr(loaded.model.config, "quantization_config")
    assert type(loaded.model.model.layers[0].self_attn.q_proj) is torch.nn.Linear
    assert (logits(loaded.model, tokens()) - logits(model_of("llama"), tokens())).abs().max() < 1e-4
    assert loaded.geometry.rope_parameters["rope_type"] == "default"
    assert loaded.provenance.architecture == "LlamaForCausalLM"


@pytest.mark.parametrize(("pre", "expected"), [("smollm", ["ĠĠ", "7"]), ("gpt-2", ["Ġ", "Ġ", "7"])])
def test_smollm_splits_digits_first(tmp_path: Path, pre: str, expected: list[str]) -> None:
    tokenizer = load(ModelSpec(id=str(write_gguf(tmp_path / "tiny.gguf", pre=pre))), device="cpu").tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("  7")["input_ids"]) == expected


CONFIG = SimpleNamespace(max_position_embeddings=4096, head_dim=8, hidden_size=64, num_attention_heads=8)


def header(rope: Mapping[str, Any], factors: Mapping[str, list[float]] | None = None) -> Header:
    return Header(path=Path("m.gguf"), rope=rope, factors=factors or {}, pre_tokenizer=None)


@pytest.mark.parametrize(
    ("rope", "factors", "expected"),
    [
        ({}, {}, {"rope_type": "default"}),
        ({"scaling.type": "none", "scaling.factor": 4.0}, {}, {"rope_type": "default"}),
        ({"scaling.type": "linear", "scaling.factor": 4.0}, {}, {"rope_type": "linear", "factor": 4.0}),
        ({"scale_linear": 2.0}, {}, {"rope_type": "linear", "factor": 2.0}),
        ({"dimension_count": 4}, {}, {"rope_type": "default", "partial_rotary_factor": 0.5}),
        (
            {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 1024},
            {},
            {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 1024,
                "attention_factor": 0.1 * math.log(4.0) + 1.0,
            },
        ),
        (
            {
                "scaling.type": "yarn",
                "scaling.factor": 2.0,
                "scaling.attn_factor": 0.5,
                "scaling.yarn_beta_fast": 8.0,
            },
            {},
            {
                "rope_type": "yarn",
                "factor": 2.0,
                "original_max_position_embeddings": 4096,
                "attention_factor": 0.5 * (0.1 * math.log(2.0) + 1.0),
            },
        ),
        (
            {"scaling.original_context_length": 1024, "scaling.attn_factor": 1.19},
            {"rope_factors_short": [1.0] * 4, "rope_factors_long": [2.0] * 4},
            {
                "rope_type": "longrope",
                "short_factor": [1.0] * 4,
                "long_factor": [2.0] * 4,
                "factor": 4.0,
                "original_max_position_embeddings": 1024,
                "attention_factor": 1.19,
            },
        ),
        (
            {},
            {"rope_freqs": [1.0, 2.0, 4.0, 8.0]},
            {
                "rope_type": "longrope",
                "short_factor": [1.0, 2.0, 4.0, 8.0],
                "long_factor": [1.0, 2.0, 4.0, 8.0],
                "factor": 1.0,
                "original_max_position_embeddings": 4096,
                "attention_factor": 1.0,
            },
        ),
    ],
)
def test_metadata_as_llama_cpp_reads_it(
    rope: dict[str, Any], factors: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert rope_parameters(header(rope, factors), CONFIG) == expected


@pytest.mark.parametrize(
    ("rope", "factors"),
    [
        ({"scaling.type": "linear", "scaling.factor": 2.0}, {"rope_freqs": [1.0] * 4}),
        ({"scaling.type": "yarn"}, {}),
        ({"scaling.type": "yarn", "scaling.factor": -1.1}, {}),
        ({"scaling.type": "yarn", "scaling.factor": 2.0, "scaling.yarn_log_multiplier": 0.1}, {}),
        ({"scaling.type": "longrope"}, {}),
        ({"scaling.type": "longrope"}, {"rope_factors_long": [1.0] * 4}),
        ({"scaling.type": "mystery", "scaling.factor": 2.0}, {}),
    ],
)
def test_unknown_combinations_are_refused(rope: dict[str, Any], factors: dict[str, Any]) -> None:
    kind = rope["scaling.type"]
    message = (
        rf"^m\.gguf: rope\.scaling\.type='{kind}', factor=.* are together a rotation that ropewalk cannot read; use"
    )
    with pytest.raises(ModelError, match=message):
        rope_parameters(header(rope, factors), CONFIG)


def test_missing_file_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"^model 'no/such\.gguf' does not exist; download the \.gguf file and give its"
    ):
        read_geometry(ModelSpec(id="no/such.gguf"))


def test_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a gguf file at all, though long enough to be one")
    with pytest.raises(ModelError, match=r"x\.gguf is no GGUF file \(.*\); download it again\.$"):
        read_geometry(ModelSpec(id=str(tmp_path / "x.gguf")))


def test_quantising_a_gguf_file_again_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(ModelError, match=r"tiny\.gguf' is quantised by its GGUF blocks; leave quantization out\.$"):
        load(ModelSpec(id=str(path), quantization={"load_in_4bit": True}))


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "rope_freqs"])
def test_geometry_and_size_come_from_the_header_alone(scaled: bool, tmp_path: Path, monkeypatch: Any) -> None:
    """Whole, and with its weights cut off: nothing of them, and nothing of the vocabulary, is looked at."""
    lambdas = LAMBDAS if scaled else None
    whole = write_gguf(tmp_path / "whole.gguf", lambdas=lambdas)
    expected = load(ModelSpec(id=str(whole)), device="cpu", dtype="float32")
    sizes = read_size(ModelSpec(id=str(whole)), "float32")
    reader = gguf.GGUFReader(str(whole))
    kept = {t.name: (t.data_offset, bytes(t.data)) for t in reader.tensors if t.name.startswith("rope_f")}
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[: reader.data_offset])
    with cut.open("r+b") as file:
        for offset, data in kept.values():
            file.seek(offset)
            file.write(data)
    seen: list[int] = []

    def counted(path: str) -> Any:
        seen.append(Path(path).stat().st_size)
        return gguf.GGUFReader(path)

    monkeypatch.setattr(reading, "GGUFReader", counted)
    assert read_geometry(ModelSpec(id=str(cut))) == read_geometry(ModelSpec(id=str(whole))) == expected.geometry
    assert read_size(ModelSpec(id=str(cut)), "float32") == sizes
    assert sizes.vocabulary == expected.model.config.vocab_size == VOCABULARY
    assert max(seen) < reader.data_offset


def test_a_file_cut_off_within_its_header_is_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", lambdas=LAMBDAS).read_bytes()
    for size in (10, 200, len(whole) // 3):
        (tmp_path / "cut.gguf").write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"cut\.gguf is no GGUF file \(.*\); download it again\.$"):
            read_geometry(ModelSpec(id=str(tmp_path / "cut.gguf")))


def test_a_file_that_asks_for_bos_gets_it_whatever_the_tokenizer_does():
    header = reading.read_header(_smollm2_gguf())
    assert header.adds_bos is False
    plain = reading.read_tokenizer(header)
    asked = reading.read_tokenizer(dataclasses.replace(header, adds_bos=True))
    ids = plain("It is a truth")["input_ids"]
    assert ids[0] != plain.bos_token_id
    assert asked("It is a truth")["input_ids"] == [plain.bos_token_id, *ids]
    assert asked("It is a truth", add_special_tokens=False)["input_ids"] == ids


@pytest.mark.parametrize(("count", "hidden"), [(9, 64), (-2, 64), (2.5, 64), (None, 7)])
def test_dimensions_that_no_head_has_are_refused(count: Any, hidden: int) -> None:
    config = SimpleNamespace(max_position_embeddings=4096, hidden_size=hidden, num_attention_heads=8)
    with pytest.raises(ModelError, match=r"^m\.gguf: rope\.dimension_count=\S+ of heads of \d dimensions cannot be"):
        rope_parameters(header({"dimension_count": count}), config)
