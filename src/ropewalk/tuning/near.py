"""Attention that is as trained up to a distance, and turned on from there by angles that have a gradient.

Rotations add up: queries and keys come turned by the unscaled rotation, and for far pairs they are turned by the rest,
and the query has gains.

Shapes: B rows, H query heads, G key/value heads, S positions, D and E head dimensions, P pairs, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ropewalk.models.pairs import Pairs

CHUNK = 512
"""Queries whose logits are held at a time."""


def multiplied(query: Tensor, factors_LHD: Tensor | None, layer: int) -> Tensor:
    """Queries `[B, H, S, D]` of a layer times their factors, in their own dtype."""
    if factors_LHD is None:
        return query
    return (query.float() * factors_LHD[layer].to(query.device)[None, :, None, :]).to(query.dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Far:
    """What pairs at a distance of at least `near` tokens are told beside what near ones are.

    Attributes:
        rest_P: their angle per token less the unscaled one, float32 `[P]`.
        factor: A, float32 `[]`.
        layers: that turn; the others attend as they do.
        factors_LHD: of the query, float32 `[L, H, D]`; None leaves it.
    """

    near: int
    rest_P: Tensor
    factor: Tensor
    pairs: Pairs
    layers: frozenset[int]
    factors_LHD: Tensor | None = None

    def turned(self, states: Tensor) -> Tensor:
        """Queries or keys `[B, H, S, D]` of positions 0 to S - 1, turned by the rest, times A."""
        pair, partner, sign = (
            each.to(states.device) for each in (self.pairs.pair, self.pairs.partner, self.pairs.sign)
        )
        still = pair < 0
        places = torch.arange(states.shape[2], device=states.device, dtype=torch.float32)
        chosen_PD = (pair[None] == torch.arange(len(self.rest_P), device=pair.device)[:, None]).float()
        angle = (places[:, None] * self.rest_P.to(states.device)) @ chosen_PD
        whole = states.float()
        out = whole * angle.cos() + whole[..., partner] * angle.sin() * sign
        return (out * torch.where(still, 1.0, self.factor.to(states.device))).to(states.dtype)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Causal attention of `[B, H, S, D]` to `[B, G, S, D]` and `[B, G, S, E]` in a layer; `[B, H, S, E]`."""
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        far, told = multiplied(self.turned(query), self.factors_LHD, layer), self.turned(key)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        spans = [range(first, min(first + CHUNK, query.shape[2])) for first in range(0, query.shape[2], CHUNK)]
        return torch.cat([checkpoint(self._span, query, far, key, told, value, scale, span, use_reentrant=False)
                          for span in spans], dim=2)  # fmt: skip

    def _span(
        self, query: Tensor, far: Tensor, key: Tensor, told: Tensor, value: Tensor, scale: float, span: range
    ) -> Tensor:
        """Of the queries of a span: the logits of near and of far pairs side by side, under one softmax."""
        rows, stop = slice(span.start, span.stop), span.stop
        distance = torch.arange(span.start, stop, device=query.device)[:, None] - torch.arange(
            stop, device=query.device
        )
        near = query[:, :, rows] @ key[:, :, :stop].mT
        logits = torch.where(distance < self.near, near, far[:, :, rows] @ told[:, :, :stop].mT).float() * scale
        shares = logits.masked_fill(distance < 0, -torch.inf).softmax(dim=-1)
        return shares.to(value.dtype) @ value[:, :, :stop]
