"""Gains of the query as factors of weights: what a file of a model has to hold instead, so that engines know nothing.

A gain commutes with the rotation, as both dimensions of a pair have the same: a row of q_proj times exp(g) gives what
the rotated query times exp(g) gives. Exact up to the rounding of weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExportError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folding:
    """Gains, and where the dimensions of a pair lie.

    Attributes:
        gains: g float32 `[layers, heads, rotary_dim/2]`.
        pairs: int64 `[head_dim]`, the pair of each dimension of a head in transformers' order; -1 where it has none.
    """

    gains: NDArray[np.float32]
    pairs: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.gains.ndim != 3 or self.pairs.ndim != 1 or int(self.pairs.max(initial=-1)) >= self.gains.shape[2]:
            raise ValueError(f"gains {self.gains.shape} do not fit pairs {self.pairs.shape}")

    @property
    def layers(self) -> tuple[int, ...]:
        """Those whose gains are not all 0."""
        return tuple(int(i) for i in np.flatnonzero(np.any(self.gains != 0, axis=(1, 2))))

    def factors(self, layer: int) -> NDArray[np.float32]:
        """What each dimension of each head is multiplied by, `[heads, head_dim]`."""
        spread = np.exp(self.gains[layer].astype(np.float64))[:, np.maximum(self.pairs, 0)]
        return np.where(self.pairs >= 0, spread, 1.0).astype(np.float32)

    def shared(self, layer: int, where: str) -> NDArray[np.float32]:
        """The same for all heads, `[head_dim]`.

        Raises:
            ExportError: heads have gains of their own, and `where` is one weight for all of them.
        """
        factors = self.factors(layer)
        if not np.array_equal(factors, np.broadcast_to(factors[:1], factors.shape)):
            raise ExportError(
                f"{where} is shared by all heads and cannot hold gains per head; it holds gains per layer and pair: "
                "tune with --what rotation+pair, or the rotation alone."
            )
        return factors[0]
