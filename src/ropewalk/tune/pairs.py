"""Which dimensions of the query turn together, by layer: found out by turning one pair at a time.

Shapes: R rows, H query heads, D dimensions of a head, P rotated pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ropewalk.errors import ModelError
from ropewalk.models import patched
from ropewalk.models.geometry import geometry_of
from ropewalk.rope import Rotation
from ropewalk.scoring.head import PROBE_STRIDE, Split
from ropewalk.tune.attention import tunable, watched

APART = 0.1
"""A dimension that does not turn changes by less than this share of what turning changes one that does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turning:
    """Attributes:
    pairs: int64 `[D]`, the pair of each dimension of a head; -1 where it does not turn.
    layers: which layers turn by the rotation that methods change.
    depth: layers of the model.
    heads: query heads of those that turn.
    """

    pairs: NDArray[np.int64]
    layers: tuple[int, ...]
    depth: int
    heads: int


@torch.inference_mode()
def turning(model: Any, parts: Split) -> Turning:
    """Turn one pair at a time, at two positions of one token: what then differs from standing still is that pair.

    The two tokens are one, so attention gives every layer the same input at both, whatever its weights are.

    Raises:
        ModelError: some layer turns in another way, or pairs lie differently from layer to layer.
    """
    count = geometry_of(model.config).rotary_dim // 2
    still = np.zeros((count + 1, count))
    still[np.arange(1, count + 1), np.arange(count)] = 1.0
    vocabulary, device = parts.head.weight.shape[0], parts.head.weight.device
    ids = torch.full((1, 2), PROBE_STRIDE % vocabulary, device=device)
    queries: dict[int, list[Tensor]] = {}
    with tunable(model):
        for row in still:
            with watched() as seen, patched(model, Rotation(inv_freq=row)):
                parts.body(ids)
            for layer, query in seen.items():
                queries.setdefault(layer, []).append(query[0, :, 1].float().cpu())
    found: dict[int, tuple[NDArray[np.int64], int]] = {}
    for layer, each in queries.items():
        pairs = _pairs(torch.stack(each), type(model).__name__)
        if pairs is not None:
            found[layer] = (pairs, each[0].shape[0])
    if not found:
        raise ModelError(f"{type(model).__name__}: no layer's query turns, so there is nothing to tune.")
    first = next(iter(found.values()))
    if not all(np.array_equal(pairs, first[0]) and heads == first[1] for pairs, heads in found.values()):
        raise ModelError(f"{type(model).__name__}: pairs lie differently from layer to layer; it cannot be tuned yet.")
    return Turning(pairs=first[0], layers=tuple(sorted(found)), depth=max(queries) + 1, heads=first[1])


def _pairs(query_RHD: Tensor, name: str) -> NDArray[np.int64] | None:
    """The pair of each dimension, `[D]`; None for a layer that does not turn."""
    change_PD = (query_RHD[1:] - query_RHD[:1]).abs().amax(dim=1)
    if float(change_PD.max()) < APART * float(query_RHD.abs().max()):
        return None
    pairs = np.full(change_PD.shape[1], -1, dtype=np.int64)
    for pair, change_D in enumerate(change_PD):
        values, places = change_D.topk(min(3, len(change_D)))
        both = places[:2].numpy()
        if (len(values) > 2 and float(values[2]) > APART * float(values[1])) or (pairs[both] >= 0).any():
            raise ModelError(f"{name}: a layer turns other dimensions than two a pair; it cannot be tuned yet.")
        pairs[both] = pair
    return pairs
