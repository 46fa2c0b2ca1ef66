"""Proportional RoPE: the slow dimensions carry no position at all (p-RoPE, Gemma 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ropewalk.methods.method import FACTOR, KIND, Auto, Method, Scaled
from ropewalk.methods.parameters import Number
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportional(Scaled):
    method: ClassVar[str] = "proportional"
    factor: float | Auto = field(default=1.0, metadata={KIND: FACTOR})
    partial_rotary_factor: float = field(
        metadata={
            KIND: Number(
                above=0, maximum=1, doc="p, the share of pairs that turn", remedy="write 0.25, as Gemma 4 ships"
            )
        },
    )


def proportional(geometry: RopeGeometry, params: Proportional, length: int) -> Rotation:
    """inv_freq_i = f_i / s for the first floor(p d/2) pairs and 0 (no rotation) for the rest, A = 1.

    p-RoPE (arXiv:2410.06205, section 6) with a divisor, as in transformers: d stays the whole head,
    unlike `partial_rotary_factor` of the other rope types, which shortens d.
    """
    turning = int(params.partial_rotary_factor * geometry.rotary_dim // 2)
    turns_at_all = np.arange(geometry.rotary_dim // 2) < turning
    return Rotation(inv_freq=np.where(turns_at_all, geometry.unscaled_inv_freq / params.s, 0.0))


def hf(geometry: RopeGeometry, params: Proportional, length: int) -> dict[str, Any] | None:
    """`proportional`; None for heads that are rotated in part, as transformers takes the whole head here."""
    shipped = geometry.rope_parameters
    if shipped.get("rope_type") != "proportional" and shipped.get("partial_rotary_factor", 1) != 1:
        return None
    return {
        "rope_type": "proportional",
        "factor": params.s,
        "partial_rotary_factor": params.partial_rotary_factor,
    }


METHOD = Method(
    name="proportional",
    params=Proportional,
    function=proportional,
    paper="Barbero et al. 2024, arXiv:2410.06205 (p-RoPE); Gemma 4",
    summary="For checkpoints trained with it (Gemma 4); on others it removes dimensions that the model relies on.",
    formula="inv_freq_i = f_i / s for i < floor(p d/2), else 0; A = 1",
    hugging_face="proportional",
    hf=hf,
)
