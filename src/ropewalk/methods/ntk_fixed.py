"""NTK-fixed: the last pair reaches the factor, and the first is divided as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ropewalk.methods.method import Method, Scaled
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class NtkFixed(Scaled):
    method: ClassVar[str] = "ntk_fixed"


def ntk_fixed(geometry: RopeGeometry, params: NtkFixed, length: int) -> Rotation:
    """lambda_i = s^(2(i+1)/d), A = 1 (Su 2023, kexue.fm/archives/9706; vLLM serves it as rope_type `ntk`).

    The base b s, and every pair divided once more by s^(2/d), so that the slowest is divided by s itself.
    """
    exponent = np.arange(2, geometry.rotary_dim + 2, 2, dtype=np.float64) / geometry.rotary_dim
    return Rotation(inv_freq=geometry.unscaled_inv_freq / params.s**exponent)


METHOD = Method(
    name="ntk_fixed",
    params=NtkFixed,
    function=ntk_fixed,
    paper="Su 2023, kexue.fm/archives/9706 (NTK-RoPE-fixed)",
    summary="Without finetuning: as ntk_aware, but every pair is stretched, the last by the factor.",
    formula="lambda_i = s^(2(i+1)/d); A = 1",
)
