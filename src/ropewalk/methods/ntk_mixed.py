"""NTK-mixed: lambda grows as the exponential of a power of the dimension."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ropewalk.methods.method import KIND, Method, Scaled
from ropewalk.methods.parameters import Number
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class NtkMixed(Scaled):
    method: ClassVar[str] = "ntk_mixed"
    mixed_b: float = field(
        default=0.625, metadata={KIND: Number(above=0, maximum=10, doc="b, how late lambda grows; 1 is ntk_fixed")}
    )


def ntk_mixed(geometry: RopeGeometry, params: NtkMixed, length: int) -> Rotation:
    """lambda_i = exp(a (i+1)^b) with a = ln s / (d/2)^b, A = 1 (Su 2023, kexue.fm/archives/9706).

    vLLM serves it as rope_type `ntk` with mixed_b. Written s^(((i+1)/(d/2))^b), which is the same.
    """
    share = np.arange(2, geometry.rotary_dim + 2, 2, dtype=np.float64) / geometry.rotary_dim
    return Rotation(inv_freq=geometry.unscaled_inv_freq / params.s ** (share**params.mixed_b))


METHOD = Method(
    name="ntk_mixed",
    params=NtkMixed,
    function=ntk_mixed,
    paper="Su 2023, kexue.fm/archives/9706 (NTK-RoPE-mixed)",
    summary="Without finetuning: between ntk_fixed and linear; the default b stretches fast dimensions more.",
    formula="lambda_i = exp(a (i+1)^b), a = ln s/(d/2)^b, b = mixed_b; A = 1",
)
