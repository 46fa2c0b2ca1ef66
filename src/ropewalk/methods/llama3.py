"""The scaling of Llama 3.1 and 3.2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ropewalk.methods.method import FACTOR, KIND, Auto, Method, Scaled, ordered
from ropewalk.methods.ntk_by_parts import by_parts, by_parts_form
from ropewalk.methods.parameters import Number
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3(Scaled):
    method: ClassVar[str] = "llama3"
    rules: ClassVar = (
        ordered("low_freq_factor", "high_freq_factor", "write 1 and 4, as Llama 3.1 does, turns in the window"),
    )
    factor: float | Auto = field(default=8.0, metadata={KIND: FACTOR})
    low_freq_factor: float = field(
        default=1.0, metadata={KIND: Number(above=0, doc="turns in the window up to which a pair is divided by factor")}
    )
    high_freq_factor: float = field(
        default=4.0, metadata={KIND: Number(above=0, doc="turns in the window from which a pair is kept")}
    )


def llama3(geometry: RopeGeometry, params: Llama3, length: int) -> Rotation:
    """ntk_by_parts with alpha = low_freq_factor and beta = high_freq_factor, A = 1.

    Released with Llama 3.1 (arXiv:2407.21783 describes the model, its code the formula).
    """
    return by_parts(geometry, params.s, params.window, params.low_freq_factor, params.high_freq_factor)


def hf(geometry: RopeGeometry, params: Llama3, length: int) -> dict[str, Any]:
    """`llama3`."""
    return by_parts_form(params.s, params.window, params.low_freq_factor, params.high_freq_factor)


METHOD = Method(
    name="llama3",
    params=Llama3,
    function=llama3,
    paper="Llama 3.1 code release 2024 (model: arXiv:2407.21783)",
    summary="What Llama 3.1 and 3.2 ship: a short ramp, so most dimensions are either kept or fully divided.",
    formula="1/lambda_i = (1-gamma)/s + gamma, gamma = clip((r_i-low)/(high-low), 0, 1); A = 1",
    hugging_face="llama3",
    hf=hf,
)
