"""StreamingLLM (arXiv:2309.17453): the first tokens and the last ones, with nothing between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ropewalk.errors import MethodError
from ropewalk.methods.method import KIND, Extension, Method
from ropewalk.methods.parameters import Tokens
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Branch, Positions, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming(Extension):
    method: ClassVar[str] = "streaming"
    sinks: int = field(default=4, metadata={KIND: Tokens(doc="first tokens that are always seen", optional=False)})
    neighbor_window: int | None = field(
        default=None, metadata={KIND: Tokens(doc="w, last tokens that are seen; null is L0 - sinks")}
    )


def streaming(geometry: RopeGeometry, params: Streaming, length: int) -> Scheme:
    """The last w tokens at their distances and the first `sinks`, positions counted among the tokens that are left.

    Raises:
        MethodError: they are more than the trained window.
    """
    own, sinks = Rotation(inv_freq=geometry.unscaled_inv_freq), params.sinks
    w = params.window - sinks if params.neighbor_window is None else params.neighbor_window
    if not 1 <= w <= params.window - sinks:
        raise MethodError(
            f"streaming: {sinks} sinks and neighbor_window={w} must together be at most the trained window of "
            f"{params.window} tokens; leave neighbor_window out for {max(1, params.window - sinks)}."
        )
    first = Branch(rotation=own, start=w, keys=sinks, query=Positions(limit=w + sinks - 1))
    return Scheme(rotation=own, branches=(Branch(rotation=own, stop=w), first))


METHOD = Method(
    name="streaming",
    params=Streaming,
    function=streaming,
    paper="Xiao et al. 2023, arXiv:2309.17453",
    summary="A baseline: text of any length, of which only the beginning and the last window are seen.",
    formula="t < w: t; j < sinks: min(i, w + sinks - 1) - j; else not seen",
)
