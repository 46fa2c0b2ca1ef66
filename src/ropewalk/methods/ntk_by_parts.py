"""NTK-by-parts: keep the dimensions that turn often in the window, divide those that never complete a turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ropewalk.methods.blend import blend, ramp_over_turns
from ropewalk.methods.method import KIND, Method, Scaled, ordered
from ropewalk.methods.parameters import Number
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class NtkByParts(Scaled):
    method: ClassVar[str] = "ntk_by_parts"
    rules: ClassVar = (ordered("alpha", "beta", "write alpha 1 and beta 32, as the paper does, turns in the window"),)
    alpha: float = field(
        default=1.0, metadata={KIND: Number(above=0, doc="turns in the window up to which a pair is divided by factor")}
    )
    beta: float = field(
        default=32.0, metadata={KIND: Number(above=0, doc="turns in the window from which a pair is kept")}
    )


def ntk_by_parts(geometry: RopeGeometry, params: NtkByParts, length: int) -> Rotation:
    """1/lambda_i = (1 - gamma)/s + gamma, gamma = clip((r_i - alpha)/(beta - alpha), 0, 1), A = 1.

    arXiv:2309.00071, section 3.2. r_i = turns of pair i in the window.
    """
    return by_parts(geometry, params.s, params.window, params.alpha, params.beta)


def by_parts(geometry: RopeGeometry, s: float, window: int, low: float, high: float) -> Rotation:
    """The one formula of ntk_by_parts and llama3: divide below `low` turns in the window, keep above `high`."""
    return Rotation(
        inv_freq=blend(geometry.unscaled_inv_freq, ramp_over_turns(geometry, window, low, high), s),
    )


def hf(geometry: RopeGeometry, params: NtkByParts, length: int) -> dict[str, Any]:
    """`llama3`, which is the same formula."""
    return by_parts_form(params.s, params.window, params.alpha, params.beta)


def by_parts_form(s: float, window: int, low: float, high: float) -> dict[str, Any]:
    """`llama3` with these bounds."""
    return {
        "rope_type": "llama3",
        "factor": s,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": window,
    }


METHOD = Method(
    name="ntk_by_parts",
    params=NtkByParts,
    function=ntk_by_parts,
    paper="Peng et al. 2023, arXiv:2309.00071, section 3.2",
    summary="YaRN without its temperature; the same formula as llama3, whose bounds are 1 and 4.",
    formula="1/lambda_i = (1-gamma)/s + gamma, gamma = clip((r_i-alpha)/(beta-alpha), 0, 1); A = 1",
    hugging_face="llama3",
    hf=hf,
)
