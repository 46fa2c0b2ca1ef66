"""What is judged beside each other: a rotation, perhaps with gains, perhaps fed only the last tokens; pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.rope import Rotation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """Attributes:
    rotation: inv_freq and attention_factor.
    gains: g float32 `[layers, heads, rotary_dim/2]`; pairs of the query are multiplied by exp(g). None for none.
    context: only the last so many tokens are fed for each token that is scored; None for all of them.
    """

    rotation: Rotation
    gains: NDArray[np.float32] | None = None
    context: int | None = None

    @property
    def fingerprint(self) -> str:
        """16 hex digits; the rotation's where there is nothing beside it."""
        if self.gains is None and self.context is None:
            return self.rotation.fingerprint
        gains = b"" if self.gains is None else self.gains.astype("<f4").tobytes() + str(self.gains.shape).encode()
        return hashlib.sha256(f"{self.rotation.fingerprint} {self.context} ".encode() + gains).hexdigest()[:16]
