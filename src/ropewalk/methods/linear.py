"""Position interpolation (arXiv:2306.15595)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ropewalk.methods.method import Method, Scaled
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Scaled):
    method: ClassVar[str] = "linear"


def linear(geometry: RopeGeometry, params: Linear, length: int) -> Rotation:
    """Divide every frequency by s: lambda_i = s, A = 1 (arXiv:2306.15595, eq. 4)."""
    return Rotation(inv_freq=geometry.unscaled_inv_freq / params.s)


def hf(geometry: RopeGeometry, params: Linear, length: int) -> dict[str, Any]:
    """`linear`."""
    return {"rope_type": "linear", "factor": params.s}


METHOD = Method(
    name="linear",
    params=Linear,
    function=linear,
    paper="Chen et al. 2023, arXiv:2306.15595",
    summary="Positions are squeezed evenly: the oldest method, meant to be finetuned, blurs neighbouring tokens.",
    formula="lambda_i = s; A = 1",
    hugging_face="linear",
    hf=hf,
)
