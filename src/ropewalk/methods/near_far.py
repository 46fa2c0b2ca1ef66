"""What methods with branches share: near tokens keep their distances, far ones are told others.

Notation: t = i - j, distance in tokens of a query at i and a key at j; L0 = trained window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ropewalk.errors import MethodError
from ropewalk.methods.method import KIND, Extension
from ropewalk.methods.parameters import Tokens
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Branch, Gains, Positions, Scheme

NEIGHBORS = Tokens(doc="w, tokens nearer than which distances are exact", optional=False)
GROUP = Tokens(doc="G, tokens that stand at one far position", optional=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearFar(Extension):
    """Parameters of methods that are exact within w tokens."""

    neighbor_window: int = field(default=1024, metadata={KIND: NEIGHBORS})

    @property
    def w(self) -> int:
        """Tokens; resolved parameters only.

        Raises:
            MethodError: more than the trained window, inside which every distance is exact anyway.
        """
        if self.neighbor_window > self.window:
            raise MethodError(
                f"{self.method}: neighbor_window={self.neighbor_window} must be at most the trained window of "
                f"{self.window} tokens; give e.g. {max(1, self.window // 4)}."
            )
        return self.neighbor_window


def near_far(
    geometry: RopeGeometry,
    near: int,
    *,
    query: Positions,
    key: Positions | None = None,
    far: Rotation | None = None,
    gains: Gains | None = None,
) -> Scheme:
    """The unscaled rotation at distances below `near`; from there on other positions, another rotation, or gains of the
    query."""
    own, key = Rotation(inv_freq=geometry.unscaled_inv_freq), key or Positions()
    far = far or own
    if query == key == Positions() and far == own and gains is None:
        return Scheme(rotation=own)
    beyond = Branch(rotation=far, start=near, query=query, key=key, gains=gains)
    return Scheme(rotation=own, branches=(Branch(rotation=own, stop=near), beyond))


def reach_of(group: int, params: NearFar) -> float:
    """The longest text whose distances are all inside the trained window: (L0 - w) G + w tokens."""
    return (params.window - params.w) * group + params.w
