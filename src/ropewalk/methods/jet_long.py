"""Jet-Long (arXiv:2607.07740): groups as large as the length asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from ropewalk.methods.method import KIND, Method
from ropewalk.methods.near_far import NEIGHBORS, NearFar, near_far
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Positions, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class JetLong(NearFar):
    method: ClassVar[str] = "jet_long"
    neighbor_window: int = field(default=2048, metadata={KIND: NEIGHBORS})


def jet_long(geometry: RopeGeometry, params: JetLong, length: int) -> Scheme:
    """Distances t <= w as they are, others floor(i/G) - floor(j/G) without an offset, G = ceil(L / L0)."""
    far = Positions(group=math.ceil(length / params.window))
    return near_far(geometry, params.w + 1, query=far, key=far)


def varies(geometry: RopeGeometry, params: JetLong) -> bool:
    """G grows with the length."""
    return True


METHOD = Method(
    name="jet_long",
    params=JetLong,
    function=jet_long,
    paper="arXiv:2607.07740",
    summary="Unscaled inside the window; beyond it groups that just reach the length, without a parameter for it.",
    formula="t <= w: t; else floor(i/G) - floor(j/G), G = ceil(L/L0)",
    varies=varies,
)
