"""Leaky ReRoPE (kexue.fm 9706, 9728): far distances grow more slowly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ropewalk.methods.method import KIND, Method
from ropewalk.methods.near_far import NearFar, near_far
from ropewalk.methods.parameters import Number
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Positions, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakyReRope(NearFar):
    method: ClassVar[str] = "leaky_rerope"
    k: float = field(default=16.0, metadata={KIND: Number(minimum=1, maximum=1e6, doc="far distances are divided by")})


def leaky_rerope(geometry: RopeGeometry, params: LeakyReRope, length: int) -> Scheme:
    """Distances t < w as they are, others w + (t - w)/k: query at (i + w (k-1))/k, key at j/k."""
    k = params.k
    query = Positions(scale=1 / k, offset=params.w * (k - 1) / k)
    return near_far(geometry, params.w, query=query, key=Positions(scale=1 / k))


def reach(geometry: RopeGeometry, params: LeakyReRope) -> float:
    """Tokens: w + (L0 - w) k."""
    return params.w + (params.window - params.w) * params.k


METHOD = Method(
    name="leaky_rerope",
    params=LeakyReRope,
    function=leaky_rerope,
    paper="Su 2023, kexue.fm/archives/9708; code: bojone/rerope (with temperature: logn)",
    summary="Near tokens exact, far ones on a line of another slope, without steps.",
    formula="t < w: t; else w + (t - w)/k",
    reach=reach,
)
