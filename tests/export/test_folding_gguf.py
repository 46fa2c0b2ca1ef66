"""Gains in a GGUF file: scales of blocks alone are multiplied, in the rows that llama.cpp takes for the query."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import gguf
import gguf_models
import numpy as np
import pytest
import tiny_models
import torch
from gguf import GGMLQuantizationType as Type

from ropewalk.errors import ExportError
from ropewalk.export import folding_gguf
from ropewalk.export.folding import Folding
from ropewalk.export.gguf_file import open_gguf

sys.path.insert(0, str(Path(__file__).parents[1] / "tune"))
from folding_models import SHARED, at_run_time, gains_of, model_of, turns_of

HALF = 2.0**-11
"""Half of what float16 tells apart: the relative rounding of a scale."""
LEAST = 2.0**-14
"""float16 rounds smaller numbers by more."""


def drawn(kind: Type, rows: int, columns: int) -> np.ndarray:
    """Rows of a type; of one that nothing here quantises to, random blocks with scales that are numbers."""
    draw = np.random.default_rng(0)
    values = draw.normal(0, 1, (rows, columns)).astype(np.float32)
    if kind not in (Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K):
        return gguf.quants.quantize(values, kind)
    size, places = folding_gguf.SCALES[kind]
    blocks = draw.integers(0, 256, (rows, columns // 256, size)).astype(np.uint8)
    for place in places:
        scales = draw.uniform(0.01, 0.02, blocks.shape[:2]).astype(np.float16)
        blocks[:, :, place : place + 2] = scales[..., None].view(np.uint8)
    return blocks.reshape(rows, -1)


def tensor_of(path: Path, kind: Type, rows: int = 6, columns: int = 512) -> Any:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(8)
    writer.add_tensor("blk.0.attn_q.weight", drawn(kind, rows, columns), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_gguf(path).tensors[0]


@pytest.mark.parametrize("kind", [Type.F32, Type.F16, Type.BF16, *folding_gguf.SCALES], ids=lambda kind: kind.name)
def test_rows_are_multiplied_and_not_quantised_anew(kind: Type, tmp_path: Path) -> None:
    tensor = tensor_of(tmp_path / "one.gguf", kind)
    factors = np.array([0.5, 1.3, 1.0, 0.77], dtype=np.float32)  # the last two rows have none
    data, rounded = folding_gguf.multiplied(tensor, factors)
    before, after = (gguf.quants.dequantize(each, kind).astype(np.float64) for each in (tensor.data, data))
    expected = before * np.append(factors, [1, 1])[:, None]
    bound = {Type.F32: 2.0**-23, Type.BF16: 2.0**-8}.get(kind, HALF)
    assert rounded <= bound * (1 + 1e-6)
    assert kind == Type.F32 or rounded > bound / 100
    # d q + m: both may be off by their own rounding, and may cancel
    scale = np.abs(before).max(axis=1, keepdims=True) * np.append(factors, [1, 1])[:, None]
    assert (np.abs(after - expected) <= 4 * bound * scale + LEAST * HALF).all()
    assert (after[[0, 2, 4, 5]] == expected[[0, 2, 4, 5]]).all()  # powers of two, and rows that are none of the query's
    if kind in folding_gguf.SCALES:  # nothing but scales changed
        size, places = folding_gguf.SCALES[kind]
        changed = (np.array(tensor.data) != data).reshape(6, -1, size).any(axis=(0, 1))
        assert set(np.flatnonzero(changed)) <= {place + i for place in places for i in (0, 1)}


def test_a_type_without_a_row_s_own_scale_is_refused(tmp_path: Path) -> None:
    tensor = tensor_of(tmp_path / "one.gguf", Type.F32)
    strange = tensor._replace(tensor_type=Type.IQ2_XXS)
    with pytest.raises(ExportError, match=r"blk.0.attn_q.weight is IQ2_XXS, whose blocks .* known are F32"):
        folding_gguf.multiplied(strange, np.ones(4, dtype=np.float32))


def test_a_scale_that_overflows_is_refused(tmp_path: Path) -> None:
    tensor = tensor_of(tmp_path / "one.gguf", Type.Q8_0)
    with pytest.raises(ExportError, match="larger than Q8_0 holds"):
        folding_gguf.multiplied(tensor, np.full(4, 1e9, dtype=np.float32))


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma3", "phi3"])
def test_a_file_holds_gains(name: str, tmp_path: Path) -> None:
    """The folded file, read by transformers, against gains at run time: rows of llama are permuted in it."""
    model = model_of(name)
    turns = turns_of(model)
    gains, ids = gains_of(name, turns), tiny_models.tokens(rows=2, length=40)
    source = gguf_models.write(tmp_path / "in.gguf", model)
    reader = open_gguf(source)
    found = folding_gguf.folded(reader, Folding(gains=gains, pairs=turns.pairs))
    again = _with(model, found.tensors)
    expected = at_run_time(model, turns, gains, ids)
    assert float((tiny_models.logits(again, ids) - expected).abs().max() / expected.abs().max()) < 1e-5
    count = len(turns.layers) * (2 if name == "qwen2" else 1)
    assert f"{count} tensors hold the gains, none quantised anew" in found.note()
    if name in SHARED:
        with pytest.raises(ExportError, match=r"attn_q_norm.weight is shared by all heads"):
            folding_gguf.folded(reader, Folding(gains=gains_of("llama", turns), pairs=turns.pairs))


def test_fused_rows_of_gpt_neox_come_first(tmp_path: Path) -> None:
    """transformers does not read such files: rows are compared instead."""
    model = model_of("gpt_neox")
    turns = turns_of(model)
    folding = Folding(gains=gains_of("gpt_neox", turns), pairs=turns.pairs)
    reader = open_gguf(gguf_models.write(tmp_path / "in.gguf", model))
    found = folding_gguf.folded(reader, folding)
    weight = dict(model.named_parameters())["gpt_neox.layers.1.attention.query_key_value.weight"]
    query = weight.view(4, 3, 16, 64)[:, 0] * torch.from_numpy(folding.factors(1))[:, :, None]
    assert np.allclose(found.tensors["blk.1.attn_qkv.weight"][:64], query.reshape(64, 64).numpy(), rtol=1e-6)
    assert (found.tensors["blk.1.attn_qkv.weight"][64:] == np.array(_data(reader, "blk.1.attn_qkv.weight"))[64:]).all()


def test_a_file_of_another_shape_or_unknown_rows_is_refused(tmp_path: Path) -> None:
    model = model_of("llama")
    turns = turns_of(model)
    gains = gains_of("llama", turns)
    reader = open_gguf(gguf_models.write(tmp_path / "in.gguf", model))
    with pytest.raises(ExportError, match="2 layers of 4 heads, and the gains are for 1 of 4"):
        folding_gguf.folded(reader, Folding(gains=gains[:1], pairs=turns.pairs))
    writer = gguf.GGUFWriter(str(tmp_path / "odd.gguf"), "mamba")
    writer.add_context_length(8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ExportError, match=r"how mamba lays out the rows .* use --target hf"):
        folding_gguf.folded(open_gguf(tmp_path / "odd.gguf"), Folding(gains=gains, pairs=turns.pairs))


def _data(reader: gguf.GGUFReader, name: str) -> np.ndarray:
    return next(tensor.data for tensor in reader.tensors if tensor.name == name)


def _with(model: Any, tensors: Any) -> Any:
    """A copy of the model with the file's tensors, as `gguf_models` lays them out, in place of its own."""
    again, config = copy.deepcopy(model), model.config
    weights = dict(again.named_parameters())
    names = gguf.get_tensor_name_map(gguf_models.ARCHITECTURES[config.model_type], config.num_hidden_layers)
    ours = {names.get_name(name, try_suffixes=(".weight", ".bias")): name for name in weights}
    for found, data in tensors.items():
        name = ours[found]
        plain = gguf_models.laid_out(name, weights[name].numpy(), config)
        back = torch.from_numpy(np.array(data).reshape(plain.shape))
        weights[name].copy_(weights[name] + torch.from_numpy(_undone(name, back - torch.from_numpy(plain), config)))
    return again


def _undone(name: str, change: torch.Tensor, config: Any) -> np.ndarray:
    """What a change of a tensor in a file is in transformers' order of rows."""
    if config.model_type == "llama" and "q_proj" in name:
        heads = config.num_attention_heads
        return change.reshape(heads, -1, 2, change.shape[-1]).swapaxes(1, 2).reshape(change.shape).numpy()
    return change.numpy()
