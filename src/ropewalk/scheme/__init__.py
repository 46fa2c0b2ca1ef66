"""Everything about positions that a forward pass runs under, as one frozen value."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ropewalk.files import sha256
from ropewalk.rope import Rotation
from ropewalk.scheme.branch import Branch, Positions, check_disjoint, distance_map
from ropewalk.scheme.gains import Gains
from ropewalk.scheme.temperature import Temperature

__all__ = ["Branch", "Gains", "Positions", "Scheme", "Temperature", "distance_map"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """What positions mean in a pass.

    Attributes:
        rotation: inv_freq and attention_factor of the layers that methods apply to; under branches, of those among
            them that see a sliding window only.
        context: only the last so many tokens are fed for each token that is scored; None for all of them.
        gains: what pairs of the query are multiplied by; None for nothing.
        temperature: what the query is multiplied by, by its position; None for what ships.
        branches: disjoint ranges of distance, nearest first, with positions of their own; none for one that is plain.
    """

    rotation: Rotation
    context: int | None = None
    gains: Gains | None = None
    temperature: Temperature | None = None
    branches: tuple[Branch, ...] = ()

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 2:
            raise ValueError(f"context={self.context} must be at least 2 tokens; give None to feed all of them")
        if self.branches:
            check_disjoint(self.branches)
            if self.branches[0].rotation.softmax_factor != self.rotation.softmax_factor:
                raise ValueError("branches must have the softmax factor of the rotation beside them")

    @property
    def fingerprint(self) -> str:
        """16 hex digits; the rotation's where there is nothing beside it."""
        beside = {name: value for name, value in self.plain().items() if name != "rotation"}
        if self.gains is not None:
            beside["gains"] = self.gains.fingerprint
        if not beside:
            return self.rotation.fingerprint
        text = json.dumps({"rotation": self.rotation.fingerprint, **beside}, sort_keys=True, separators=(",", ":"))
        return sha256(text.encode())[:16]

    @property
    def fed(self) -> Scheme:
        """What each pass runs under: where the context is cut decides which passes there are, not what they compute."""
        return dataclasses.replace(self, context=None)

    @property
    def far(self) -> Rotation:
        """The rotation of the most distant tokens."""
        return self.branches[-1].rotation if self.branches else self.rotation

    @property
    def only_rotates(self) -> bool:
        """Whether nothing is asked of attention itself."""
        return self.gains is None and self.temperature is None and not self.branches

    @property
    def batch(self) -> str:
        """What the schemes of one batch have in common; rotation, gains and temperature may differ by row."""
        branches = json.dumps([branch.plain() for branch in self.branches]) if self.branches else ""
        return f"{self.rotation.softmax_factor!r} {branches}"

    def plain(self) -> dict[str, Any]:
        """As JSON values, without the parts that are left as they are; rotations of branches as fingerprints."""
        rotation = {
            "inv_freq": self.rotation.inv_freq.tolist(),
            "attention_factor": self.rotation.attention_factor,
            "softmax_factor": self.rotation.softmax_factor,
        }
        values = {
            "rotation": rotation,
            "context": self.context,
            "gains": None if self.gains is None else self.gains.plain(),
            "temperature": None if self.temperature is None else self.temperature.plain(),
            "branches": [branch.plain() for branch in self.branches] or None,
        }
        return {name: value for name, value in values.items() if value is not None}
