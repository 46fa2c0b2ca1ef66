"""Drop the context: the shipped model, fed only the last half of its window; the baseline that methods have to beat.

The sliding window with re-computation that StreamingLLM compares with (Xiao et al. 2023, arXiv:2309.17453), in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ropewalk.methods.method import Method, Params
from ropewalk.methods.none import shipped, varies
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate(Params):
    """`truncate` takes no parameters: the window is the model's own."""

    method: ClassVar[str] = "truncate"


def truncate(geometry: RopeGeometry, params: Truncate, length: int) -> Scheme:
    """The shipped rotation at half of the shipped window, and a context of as many tokens."""
    context = max(2, geometry.window("stack").length // 2)
    return Scheme(rotation=shipped(geometry, context), context=context)


METHOD = Method(
    name="truncate",
    params=Truncate,
    function=truncate,
    paper="StreamingLLM: Xiao et al. 2023, arXiv:2309.17453 (its baseline)",
    summary="The baseline to beat: what dropping all but the last half window of the context costs.",
    formula="lambda_i and A as shipped, over the last window/2 tokens",
    varies=varies,
)
