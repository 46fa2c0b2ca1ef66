"""NTK-aware interpolation: a larger base instead of a divisor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ropewalk.errors import MethodError
from ropewalk.methods.method import Method, Scaled
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class NtkAware(Scaled):
    method: ClassVar[str] = "ntk_aware"


def ntk_aware(geometry: RopeGeometry, params: NtkAware, length: int) -> Rotation:
    """Scale the base by alpha^(d/(d-2)) with alpha = factor: lambda_i = alpha^(2i/(d-2)), A = 1.

    bloc97 2023; arXiv:2309.00071, section 3.1. Only the last pair reaches lambda = alpha,
    so the useful alpha is larger than target length / window.
    """
    return larger_base(geometry, params.s, params.method)


def larger_base(geometry: RopeGeometry, alpha: float, method: str) -> Rotation:
    """The rotation of base b alpha^(d/(d-2)); alpha = 1 returns f to the last bit.

    Raises:
        MethodError: rotary_dim 2, where the exponent does not exist.
    """
    d = geometry.rotary_dim
    if d < 4:
        raise MethodError(
            f"{method}: rotary_dim={d} is one pair, and the exponent 2i/(d-2) needs two; use the method 'linear'."
        )
    exponent = np.arange(0, d, 2, dtype=np.float64) / (d - 2)
    return Rotation(inv_freq=geometry.unscaled_inv_freq / alpha**exponent)


def hf(geometry: RopeGeometry, params: NtkAware, length: int) -> dict[str, Any]:
    """Another rope_theta."""
    return larger_theta(geometry, params.s)


def larger_theta(geometry: RopeGeometry, alpha: float) -> dict[str, Any]:
    """theta' = b alpha^(d/(d-2))."""
    d = geometry.rotary_dim
    return {"rope_type": "default", "rope_theta": geometry.rope_theta * alpha ** (d / (d - 2))}


METHOD = Method(
    name="ntk_aware",
    params=NtkAware,
    function=ntk_aware,
    paper="bloc97 2023 (r/LocalLLaMA, 'NTK-Aware Scaled RoPE'); arXiv:2309.00071, section 3.1",
    summary="Without finetuning, at small factors: fast dimensions keep their speed, slow ones are stretched.",
    formula="lambda_i = alpha^(2i/(d-2)), that is rope_theta' = b alpha^(d/(d-2)), alpha = factor; A = 1",
    hf=hf,
)
