"""Everything about positions that a forward pass runs under, as one frozen value."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ropewalk.files import sha256
from ropewalk.rope import Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """What positions mean in a pass.

    Attributes:
        rotation: inv_freq and attention_factor of the layers that methods apply to.
        context: only the last so many tokens are fed for each token that is scored; None for all of them.
    """

    rotation: Rotation
    context: int | None = None

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 2:
            raise ValueError(f"context={self.context} must be at least 2 tokens; give None to feed all of them")

    @property
    def fingerprint(self) -> str:
        """16 hex digits; the rotation's where there is nothing beside it."""
        beside = {name: value for name, value in self.plain().items() if name != "rotation"}
        if not beside:
            return self.rotation.fingerprint
        text = json.dumps({"rotation": self.rotation.fingerprint, **beside}, sort_keys=True, separators=(",", ":"))
        return sha256(text.encode())[:16]

    @property
    def fed(self) -> Scheme:
        """What each pass runs under: where the context is cut decides which passes there are, not what they compute."""
        return dataclasses.replace(self, context=None)

    def plain(self) -> dict[str, Any]:
        """As JSON values, without the parts that are left as they are."""
        rotation = {
            "inv_freq": self.rotation.inv_freq.tolist(),
            "attention_factor": self.rotation.attention_factor,
            "softmax_factor": self.rotation.softmax_factor,
        }
        values = {"rotation": rotation, "context": self.context}
        return {name: value for name, value in values.items() if value is not None}
