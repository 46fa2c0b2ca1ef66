"""ReRoPE (kexue.fm 9706, 9708): far tokens all stand at one distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ropewalk.methods.method import Method
from ropewalk.methods.near_far import NearFar, near_far
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Positions, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class ReRope(NearFar):
    method: ClassVar[str] = "rerope"


def rerope(geometry: RopeGeometry, params: ReRope, length: int) -> Scheme:
    """Distances t < w as they are, all others w: the query turned to w, the key not at all."""
    return near_far(geometry, params.w, query=Positions(scale=0, offset=params.w), key=Positions(scale=0))


METHOD = Method(
    name="rerope",
    params=ReRope,
    function=rerope,
    paper="Su 2023, kexue.fm/archives/9708; code: bojone/rerope",
    summary="Any length without a factor, near tokens exact; the far ones lose their order.",
    formula="t < w: t; else w",
)
