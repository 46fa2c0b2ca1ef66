"""Gains in a GGUF file: rows of the query times their factor, quantised ones by the scales of their blocks alone.

A block's numbers are d q or d q + m, with d and m in half precision: a row's factor multiplies both, and q stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, ReaderTensor
from numpy.typing import NDArray

from ropewalk.errors import ExportError
from ropewalk.export.folding import Folding
from ropewalk.export.gguf_file import architecture_of, value_of

PERMUTED = frozenset({"llama"})
STRAIGHT = frozenset({"qwen2", "qwen3", "phi3", "gemma2", "gemma3", "gptneox", "olmo2", "command-r", "cohere2"})
"""Architectures whose rows llama.cpp's converter permutes (halves to neighbours), and those that it leaves as they are
(of gptneox and phi3, the query's rows come first in the fused tensor)."""

SCALES: Mapping[Type, tuple[int, tuple[int, ...]]] = {
    Type.Q4_0: (18, (0,)),
    Type.Q4_1: (20, (0, 2)),
    Type.Q5_0: (22, (0,)),
    Type.Q5_1: (24, (0, 2)),
    Type.Q8_0: (34, (0,)),
    Type.Q2_K: (84, (80, 82)),
    Type.Q3_K: (110, (108,)),
    Type.Q4_K: (144, (0, 2)),
    Type.Q5_K: (176, (0, 2)),
    Type.Q6_K: (210, (208,)),
}
"""Bytes of a block, and where its float16 scales and minima stand (ggml-common.h)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folded:
    """Tensors in place of those of a file, by name, in the same types; and the largest relative rounding among them."""

    tensors: Mapping[str, NDArray[np.generic]]
    rounded: float

    def note(self) -> str:
        """What was done, in words."""
        return (
            f"{len(self.tensors)} tensors hold the gains, none quantised anew; rounding their scales moved no number "
            f"by more than {100 * self.rounded:.2g} % of itself."
        )


def folded(reader: GGUFReader, folding: Folding) -> Folded:
    """The tensors that hold the gains.

    Raises:
        ExportError: an architecture whose rows are not known, another shape than the gains', or a type whose blocks
            have no scale that could be multiplied.
    """
    architecture = architecture_of(reader)
    if architecture not in PERMUTED | STRAIGHT:
        raise ExportError(
            f"llama.cpp: how {architecture} lays out the rows of a query is not known here, so gains are not folded "
            f"into it; known are {', '.join(sorted(PERMUTED | STRAIGHT))}: use --target hf, and convert that directory."
        )
    _require_shape(reader, architecture, folding)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    found: dict[str, NDArray[np.generic]] = {}
    worst = 0.0
    for layer in folding.layers:
        for name, factors in _rows(tensors, layer, folding, permuted=architecture in PERMUTED).items():
            found[name], rounded = multiplied(tensors[name], factors)
            worst = max(worst, rounded)
    return Folded(tensors=found, rounded=worst)


def _require_shape(reader: GGUFReader, architecture: str, folding: Folding) -> None:
    layers, heads = (value_of(reader, f"{architecture}.{key}") for key in ("block_count", "attention.head_count"))
    if (layers, heads) != folding.gains.shape[:2]:
        raise ExportError(
            f"the file has {layers} layers of {heads} heads, and the gains are for {folding.gains.shape[0]} of "
            f"{folding.gains.shape[1]}; give the file that was converted from the tuned model."
        )


def _rows(
    tensors: Mapping[str, ReaderTensor], layer: int, folding: Folding, *, permuted: bool
) -> dict[str, NDArray[np.float32]]:
    """Factors `[R]` of the first rows of each tensor that makes a layer's query; of a norm after it, of that alone."""
    norm, q, qkv = (f"blk.{layer}.attn_{kind}" for kind in ("q_norm.weight", "q", "qkv"))
    if norm in tensors:
        heads, size = folding.gains.shape[1], len(folding.pairs)
        if tensors[norm].n_elements == size:
            return {norm: folding.shared(layer, norm)}
        if tensors[norm].n_elements == heads * size:
            return {norm: folding.factors(layer).reshape(-1)}
        raise ExportError(
            f"{norm} has {tensors[norm].n_elements} numbers, where {heads} heads of {size} were expected."
        )
    factors = folding.factors(layer)
    if permuted:
        heads, size = factors.shape
        factors = factors.reshape(heads, 2, size // 2).swapaxes(1, 2)
    for kind in (q, qkv):
        if f"{kind}.weight" in tensors:
            names = [name for name in (f"{kind}.weight", f"{kind}.bias") if name in tensors]
            return dict.fromkeys(names, factors.reshape(-1))
    raise ExportError(f"the file has neither {q}.weight nor {qkv}.weight, so there is nothing to fold gains into.")


def multiplied(tensor: ReaderTensor, factors: NDArray[np.float32]) -> tuple[NDArray[np.generic], float]:
    """The tensor's data with its first rows (or numbers) multiplied by factors `[R]`, in its own shape and dtype, and
    the largest relative error that rounding made.

    Raises:
        ExportError: its type has no scale to multiply, or one would be larger than float16 holds.
    """
    data, kind, count = np.array(tensor.data), tensor.tensor_type, len(factors)
    if kind in (Type.F32, Type.F16):
        rows = data.reshape(-1)[:count] if data.ndim == 1 or data.size == count else data[:count]
        rows[...], worst = _product(rows, factors)
    elif kind == Type.BF16:
        wide = data.view(np.uint16).reshape(len(data), -1)[:count].astype(np.uint32) << 16
        exact = wide.view(np.float32) * factors[:, None]
        near = _to_bfloat16(exact)
        data.view(np.uint16).reshape(len(data), -1)[:count] = (near.view(np.uint32) >> 16).astype(np.uint16)
        worst = _apart(near, exact)
    elif kind in SCALES:
        worst = _scaled(data, factors, *SCALES[kind])
    else:
        raise ExportError(
            f"{tensor.name} is {kind.name}, whose blocks have no scale of their own row; known are F32, F16, BF16, "
            f"{', '.join(each.name for each in SCALES)}: give a file of such a type."
        )
    if not np.isfinite(worst):
        raise ExportError(f"{tensor.name}: a gain makes a scale larger than {kind.name} holds; tune with fewer steps.")
    return data, worst


def _scaled(data: NDArray[np.generic], factors: NDArray[np.float32], size: int, places: tuple[int, ...]) -> float:
    """Multiply float16 numbers of the first rows' blocks in place by factors `[R]`; the largest relative error."""
    blocks = data.reshape(len(data), -1, size)
    worst = 0.0
    for place in places:
        raw = np.ascontiguousarray(blocks[: len(factors), :, place : place + 2])
        scales, rounded = _product(raw.view(np.float16)[..., 0], factors)
        blocks[: len(factors), :, place : place + 2] = scales[..., None].view(raw.dtype)
        worst = max(worst, rounded)
    return worst


def _product(rows: NDArray[np.generic], factors: NDArray[np.float32]) -> tuple[NDArray[np.generic], float]:
    """Rows `[R, ...]` times factors `[R]` in the same shape and dtype, and the largest relative error."""
    exact = rows.astype(np.float64) * factors.reshape(-1, *([1] * (rows.ndim - 1)))
    with np.errstate(over="ignore"):
        near = exact.astype(rows.dtype)
    return near, _apart(near, exact)


def _apart(near: NDArray[np.generic], exact: NDArray[np.floating]) -> float:
    """The largest relative error of numbers beside exact ones of the same shape; 0 where these are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(near.astype(np.float64) - exact) / np.abs(exact)
    return float(np.max(np.where(exact == 0, 0.0, off), initial=0.0))


def _to_bfloat16(exact: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest numbers, of the same shape, whose lower 16 bits are 0, ties to even."""
    bits = np.ascontiguousarray(exact, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
