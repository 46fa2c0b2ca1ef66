"""MrRoPE: geometric steps of lambda between the fast and the slow dimensions (arXiv:2601.22181)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from ropewalk.errors import MethodError
from ropewalk.methods.blend import temperature, turns
from ropewalk.methods.method import KIND, Method, Scaled
from ropewalk.methods.parameters import Choice
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class MrRope(Scaled):
    method: ClassVar[str] = "mrrope"
    mode: Literal["pro", "uni"] = field(
        default="pro",
        metadata={KIND: Choice(options=("pro", "uni"), doc="progressive (growing) or uniform steps of ln(lambda)")},
    )


def mrrope(geometry: RopeGeometry, params: MrRope, length: int) -> Rotation:
    """lambda_i = s^(t(t+1)/(n(n+1))) (pro) or s^(t/n) (uni), t = clip(i - lo, 0, n), n = hi - lo; yarn's A.

    lo is the last pair with more than 32 turns in the window (else 0), hi the first with less than 1 (else d/2).

    Provenance: written from a reproduction of the paper; the first author's repository (github.com/mattian7/mrRoPE)
    gives the same lambda in both modes, to 3.3e-16. Departs from it where every pair completes a turn: there it clamps
    hi to d - 1, this formula to d/2.

    Raises:
        MethodError: a window in which not even the first pair completes a turn.
    """
    r = turns(geometry, params.window)
    lo = max(int(np.count_nonzero(r > 32)) - 1, 0)
    n = int(np.count_nonzero(r >= 1)) - lo
    if n < 1:
        raise MethodError(
            f"mrrope: a window of {params.window} tokens is less than one turn of the fastest pair (2 pi tokens); "
            "give the trained window as original_max_position_embeddings."
        )
    t = np.clip(np.arange(r.size) - lo, 0, n)
    exponent = t * (t + 1) / (n * (n + 1)) if params.mode == "pro" else t / n
    return Rotation(inv_freq=geometry.unscaled_inv_freq / params.s**exponent, attention_factor=temperature(params.s))


METHOD = Method(
    name="mrrope",
    params=MrRope,
    function=mrrope,
    paper="arXiv:2601.22181 (agrees with the first author's code)",
    summary="To compare another ramp with yarn's: lambda grows geometrically, with the same temperature.",
    formula="lambda_i = s^(t(t+1)/(n(n+1))) (pro) or s^(t/n) (uni), t = clip(i-lo, 0, n); A = 0.1 ln s + 1",
)
