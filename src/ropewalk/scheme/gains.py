"""Gains on the query: one number per layer, head and rotated pair."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.files import sha256

LARGEST = 20.0
"""exp of it is 5e8; beyond, a gain is no gain but a slip."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gains:
    """g, by which a pair of the query is multiplied: exp(g). It commutes with the rotation, so it folds into weights.

    Attributes:
        log: g, float32 `[layers, heads, rotary_dim/2]`, read-only; all layers of the model count, and all query heads.
    """

    log: NDArray[np.float32]

    def __post_init__(self) -> None:
        log = np.array(self.log, dtype=np.float32)
        if log.ndim != 3 or log.size == 0 or not np.isfinite(log).all() or np.abs(log).max() > LARGEST:
            raise ValueError(
                f"gains must be finite numbers from {-LARGEST:g} to {LARGEST:g} of shape [layers, heads, "
                f"rotary_dim/2], got shape {list(log.shape)}; give g, of which exp(g) multiplies the query."
            )
        log.setflags(write=False)
        object.__setattr__(self, "log", log)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the shape and the bytes."""
        raw = np.array(self.log.shape, dtype="<i8").tobytes() + self.log.astype("<f4").tobytes()
        return sha256(raw)[:16]

    def plain(self) -> dict[str, Any]:
        """As JSON values, to the bit."""
        return {"shape": list(self.log.shape), "float32": base64.b64encode(self.log.astype("<f4").tobytes()).decode()}

    @staticmethod
    def of(plain: Mapping[str, Any]) -> Gains:
        """What `plain` says. Raises ValueError, LookupError or TypeError where it says something else."""
        log = np.frombuffer(base64.b64decode(plain["float32"], validate=True), dtype="<f4")
        return Gains(log=log.reshape(plain["shape"]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Gains) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)
