"""Temperatures: tau(i) multiplies the query at position i, so its logits."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["logn", "llama4", "ministral", "constant"]
LARGEST = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """tau(i), in the words of whoever ships it.

    | kind | tau(i) | source |
    |---|---|---|
    | logn | max(1, ln(i+1) / ln(scale)) | kexue.fm/archives/8823; ReRoPE, Qwen-1; scale: the trained window |
    | llama4 | 1 + beta ln(1 + floor((i+1) / scale)), in layers that do not turn | Llama 4 |
    | ministral | 1 + beta ln(1 + floor(i / scale)) | Ministral 3 (`llama_4_scaling_beta`) |
    | constant | beta | yarn's A squared, on its own |

    Attributes:
        scale: tokens.
        beta: the strength; of `constant` the temperature itself.
    """

    kind: Kind
    scale: int = 8192
    beta: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in ("logn", "llama4", "ministral", "constant"):
            raise ValueError(f"temperature {self.kind!r} must be logn, llama4, ministral or constant")
        if self.scale < 2:
            raise ValueError(f"temperature {self.kind}: scale={self.scale} must be at least 2 tokens")
        least = 1 / LARGEST if self.kind == "constant" else 0.0
        if not (math.isfinite(self.beta) and least <= self.beta <= LARGEST):
            raise ValueError(f"temperature {self.kind}: {self.beta!r} must be a number from {least:g} to {LARGEST:g}")

    def at(self, places: NDArray[Any]) -> NDArray[np.float64]:
        """tau at each place, float64 of the same shape."""
        i = np.asarray(places, dtype=np.float64)
        if self.kind == "constant":
            return np.full_like(i, self.beta)
        if self.kind == "logn":
            return np.maximum(1.0, np.log(i + 1) / math.log(self.scale))
        shift = 1 if self.kind == "llama4" else 0
        return 1 + self.beta * np.log1p(np.floor((i + shift) / self.scale))

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)
