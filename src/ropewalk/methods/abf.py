"""Adjusted base frequency: another rope_theta (arXiv:2309.16039)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ropewalk.methods.method import KIND, Extension, Method
from ropewalk.methods.parameters import Number
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Abf(Extension):
    method: ClassVar[str] = "abf"
    rope_theta: float = field(
        metadata={KIND: Number(above=1, doc="the new base b'", remedy="write 500000, as Llama 2 Long does")}
    )


def abf(geometry: RopeGeometry, params: Abf, length: int) -> Rotation:
    """lambda_i = (b'/b)^(2i/d), A = 1 (arXiv:2309.16039, section 4.1).

    The window changes nothing here; the parameter exists because every method has it.
    """
    exponent = np.arange(0, geometry.rotary_dim, 2, dtype=np.float64) / geometry.rotary_dim
    return Rotation(inv_freq=geometry.unscaled_inv_freq / (params.rope_theta / geometry.rope_theta) ** exponent)


def hf(geometry: RopeGeometry, params: Abf, length: int) -> dict[str, Any]:
    """Another rope_theta."""
    return {"rope_type": "default", "rope_theta": params.rope_theta}


METHOD = Method(
    name="abf",
    params=Abf,
    function=abf,
    paper="Xiong et al. 2023, arXiv:2309.16039",
    summary="Before continued pretraining on long text; without any training use ntk_aware to choose the base.",
    formula="lambda_i = (b'/b)^(2i/d), b' = rope_theta; A = 1",
    hugging_face="default",
    hf=hf,
)
