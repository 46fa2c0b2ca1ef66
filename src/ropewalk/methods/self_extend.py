"""Self-Extend (arXiv:2401.01325): far tokens stand in groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ropewalk.methods.method import KIND, Method
from ropewalk.methods.near_far import GROUP, NearFar, near_far, reach_of
from ropewalk.methods.parameters import Choice
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Positions, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfExtend(NearFar):
    method: ClassVar[str] = "self_extend"
    group_size: int = field(default=8, metadata={KIND: GROUP})
    division: Literal["floor", "true"] = field(
        default="floor",
        metadata={KIND: Choice(options=("floor", "true"), doc="of w by G: floored (paper) or not (released code)")},
    )


def self_extend(geometry: RopeGeometry, params: SelfExtend, length: int) -> Scheme:
    """Distances t < w as they are, others floor(i/G) + w - floor(w/G) - floor(j/G).

    The released code does not floor w/G, so positions are no whole numbers where G does not divide w:
    `division: true`.
    """
    group, w = params.group_size, params.w
    shift = w - (w // group if params.division == "floor" else w / group)
    return near_far(geometry, w, query=Positions(group=group, offset=shift), key=Positions(group=group))


def reach(geometry: RopeGeometry, params: SelfExtend) -> float:
    """Tokens: (L0 - w) G + w."""
    return reach_of(params.group_size, params)


METHOD = Method(
    name="self_extend",
    params=SelfExtend,
    function=self_extend,
    paper="Jin et al. 2024, arXiv:2401.01325; code: datamllab/LongLM",
    summary="Near tokens exact, far ones in groups whose distances the model was trained on.",
    formula="t < w: t; else floor(i/G) + w - floor(w/G) - floor(j/G)",
    reach=reach,
)
