"""What methods that change a finished rotation stand on: another method, with its defaults and their factor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ropewalk.methods import linear, ntk_aware, ntk_by_parts, yarn
from ropewalk.methods.method import KIND, Method, Scaled
from ropewalk.methods.parameters import Choice
from ropewalk.methods.reading import read
from ropewalk.rope import RopeGeometry, Rotation

BELOW: dict[str, Method] = {
    each.name: each for each in (linear.METHOD, ntk_aware.METHOD, ntk_by_parts.METHOD, yarn.METHOD)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnTop(Scaled):
    """Parameters of a method that changes the rotation of another."""

    on: Literal["linear", "ntk_aware", "ntk_by_parts", "yarn"] = field(
        default="yarn",
        metadata={KIND: Choice(options=tuple(BELOW), doc="the method below, with its defaults and this factor")},
    )


def below(geometry: RopeGeometry, params: OnTop, length: int) -> Rotation:
    """The rotation of the method below."""
    method = BELOW[params.on]
    its = {"factor": params.s, "original_max_position_embeddings": params.window}
    made = method.function(geometry, read(method, its), length)
    assert isinstance(made, Rotation)
    return made
