"""STRING (arXiv:2410.18745): far distances are shifted back to where training saw them often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ropewalk.errors import MethodError
from ropewalk.methods.method import KIND, Extension, Method
from ropewalk.methods.near_far import near_far
from ropewalk.methods.parameters import Tokens
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Positions, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class String(Extension):
    method: ClassVar[str] = "string"
    shift: int | None = field(
        default=None, metadata={KIND: Tokens(doc="S, distance from which on tokens are shifted; null is L0/3")}
    )
    neighbor_window: int = field(
        default=128, metadata={KIND: Tokens(doc="W, the distance that S becomes, in tokens", optional=False)}
    )


def string(geometry: RopeGeometry, params: String, length: int) -> Scheme:
    """Distances t < S as they are, others t - S + W. Repairs the far part of the window; extends by S - W only.

    Raises:
        MethodError: W is larger than S.
    """
    shift = max(1, params.window // 3) if params.shift is None else params.shift
    if params.neighbor_window > shift:
        raise MethodError(
            f"string: neighbor_window={params.neighbor_window} must be at most shift={shift}, the distance that it "
            f"replaces; give e.g. {max(1, shift // 8)}."
        )
    return near_far(geometry, shift, query=Positions(offset=params.neighbor_window - shift))


METHOD = Method(
    name="string",
    params=String,
    function=string,
    paper="An et al. 2024, arXiv:2410.18745",
    summary="Inside the window: far distances, rare in training, become such as were frequent. Extends nothing.",
    formula="t < S: t; else t - S + W",
)
