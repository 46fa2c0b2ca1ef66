"""A large vocabulary's loss as one Triton kernel: the log-sum-exp is taken where the logits are made.

Imported where it is used: triton comes with torch for CUDA alone. `Head.nll` in chunks is the slow twin.

Shapes: N positions, H hidden size, V vocabulary, P = ceil(V / COLUMNS) parts of it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

ROWS, COLUMNS, DEPTH = 128, 256, 64
"""Positions, vocabulary entries and hidden units of a tile."""

GROUP = 16
"""Tiles of positions that go through the vocabulary together and share what the cache holds of its weights."""

FEW = 4
"""Positions that are finished together."""

POSITIONS = 65_536
"""At a time: for 128K entries their P log-sum-exps take 0.13 GB."""


def nll(hidden_NH: Tensor, targets_N: Tensor, weight_VH: Tensor, multiplier: float) -> Tensor:
    """Negative log-likelihood of each target under `softmax(multiplier * hidden @ weight.T)`, nats, float32 `[N]`.

    Products of bfloat16 or float16 numbers are added up in float32, as in `Head.logits`.
    """
    split = zip(hidden_NH.split(POSITIONS), targets_N.split(POSITIONS), strict=True)
    return torch.cat([_nll(hidden.contiguous(), targets, weight_VH, multiplier) for hidden, targets in split])


def _nll(hidden_NH: Tensor, targets_N: Tensor, weight_VH: Tensor, multiplier: float) -> Tensor:
    (count, depth), parts = hidden_NH.shape, triton.cdiv(weight_VH.shape[0], COLUMNS)
    lse_PN = hidden_NH.new_empty((parts, count), dtype=torch.float32)
    nll_N = hidden_NH.new_empty(count, dtype=torch.float32)
    processors = torch.cuda.get_device_properties(hidden_NH.device).multi_processor_count
    with torch.cuda.device(hidden_NH.device):
        _lse_of_parts[(processors,)](
            TensorDescriptor(hidden_NH, hidden_NH.shape, hidden_NH.stride(), [ROWS, DEPTH]),
            TensorDescriptor(weight_VH, weight_VH.shape, weight_VH.stride(), [COLUMNS, DEPTH]),
            lse_PN,
            *(count, weight_VH.shape[0], depth, multiplier),
            *(ROWS, COLUMNS, DEPTH, GROUP, processors, weight_VH.shape[0] % COLUMNS == 0),
            num_stages=3,
            num_warps=8,
        )
        _nll_of_rows[(triton.cdiv(count, FEW),)](
            *(hidden_NH, weight_VH, targets_N, lse_PN, nll_N),
            *(count, parts, depth, multiplier),
            *(FEW, triton.next_power_of_2(parts), triton.next_power_of_2(depth)),
        )
    return nll_N


@triton.jit
def _lse_of_parts(
    hidden: tl.tensor,
    weight: tl.tensor,
    lse_PN: tl.tensor,
    count: tl.tensor,
    vocabulary: tl.tensor,
    depth: tl.tensor,
    multiplier: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    PROCESSORS: tl.constexpr,
    WHOLE: tl.constexpr,
) -> None:
    """Log-sum-exp of multiplier * hidden @ weight.T over every part of the vocabulary."""
    across = tl.cdiv(count, ROWS)
    band = GROUP * tl.cdiv(vocabulary, COLUMNS)
    for tile in tl.range(tl.program_id(0), across * tl.cdiv(vocabulary, COLUMNS), PROCESSORS, flatten=True):
        first = tile // band * GROUP
        height = min(across - first, GROUP)
        row = first + tile % band % height
        part = tile % band // height
        logits = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
        for step in range(tl.cdiv(depth, DEPTH)):
            h = hidden.load([row * ROWS, step * DEPTH])
            w = weight.load([part * COLUMNS, step * DEPTH])
            logits = tl.dot(h, w.T, logits)
        if not WHOLE:  # past the edge a descriptor gives zeros
            entries = part * COLUMNS + tl.arange(0, COLUMNS)
            logits = tl.where(entries[None, :] < vocabulary, logits, float("-inf"))
        top = tl.max(logits, 1)
        total = tl.sum(tl.exp2((logits - top[:, None]) * (multiplier * 1.4426950408889634)), 1)
        rows = row * ROWS + tl.arange(0, ROWS)
        tl.store(lse_PN + part.to(tl.int64) * count + rows, multiplier * top + tl.log(total), mask=rows < count)


@triton.jit
def _nll_of_rows(
    hidden: tl.tensor,
    weight: tl.tensor,
    targets: tl.tensor,
    lse_PN: tl.tensor,
    nll_N: tl.tensor,
    count: tl.tensor,
    parts: tl.tensor,
    depth: tl.tensor,
    multiplier: tl.tensor,
    ROWS: tl.constexpr,
    PARTS: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """The log-sum-exp of the whole vocabulary, less the target's logit."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    part, unit = tl.arange(0, PARTS), tl.arange(0, WIDTH)
    known = (part < parts)[:, None] & (row < count)[None, :]
    lse = tl.load(lse_PN + part.to(tl.int64)[:, None] * count + row[None, :], mask=known, other=float("-inf"))
    top = tl.max(lse, 0)
    total = tl.sum(tl.exp(lse - top[None, :]), 0)
    target = tl.load(targets + row, mask=row < count, other=0).to(tl.int64)
    inside = (row < count)[:, None] & (unit < depth)[None, :]
    h = tl.load(hidden + row[:, None] * depth + unit[None, :], mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + target[:, None] * depth + unit[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(nll_N + row, top + tl.log(total) - multiplier * tl.sum(h * w, 1), mask=row < count)
