"""LongRoPE: one divisor per pair, from a list, and another list inside the window (arXiv:2402.13753)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ropewalk.errors import MethodError
from ropewalk.methods.blend import Pairs, ramp_over_index
from ropewalk.methods.method import KIND, Auto, Method, Scaled
from ropewalk.methods.parameters import Numbers
from ropewalk.methods.yarn import ATTENTION_FACTOR
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRope(Scaled):
    method: ClassVar[str] = "longrope"
    long_factor: tuple[float, ...] | None = field(
        default=None,
        metadata={KIND: Numbers(doc="lambda per pair beyond the window; null is s(1-m) + m with yarn's ramp m")},
    )
    short_factor: tuple[float, ...] | None = field(
        default=None, metadata={KIND: Numbers(doc="lambda per pair inside the window; null is ones")}
    )
    attention_factor: float | Auto = field(default="auto", metadata={KIND: ATTENTION_FACTOR})


def longrope(geometry: RopeGeometry, params: LongRope, length: int) -> Rotation:
    """lambda = short_factor if L <= L0 else long_factor; A = sqrt(1 + ln s / ln L0) at all lengths.

    arXiv:2402.13753 searches the lists per model. Without them long_factor is s(1-m) + m with yarn's m, the
    starting point of the released search: an arithmetic blend, where yarn's is harmonic. short_factor is then ones.
    """
    divisors = short_list(geometry, params) if length <= params.window else long_list(geometry, params)
    return Rotation(inv_freq=geometry.unscaled_inv_freq / divisors, attention_factor=attention(params))


def short_list(geometry: RopeGeometry, params: LongRope) -> Pairs:
    """lambda inside the window."""
    if params.short_factor is None:
        return np.ones(geometry.rotary_dim // 2)
    return checked(geometry, "short_factor", params.short_factor)


def long_list(geometry: RopeGeometry, params: LongRope) -> Pairs:
    """lambda beyond the window; s = 1 gives ones to the last bit."""
    if params.long_factor is None:
        m = ramp_over_index(geometry, params.window, 32.0, 1.0, truncate=True, method=params.method)
        return 1.0 + (1.0 - m) * (params.s - 1.0)
    return checked(geometry, "long_factor", params.long_factor)


def checked(geometry: RopeGeometry, name: str, divisors: tuple[float, ...]) -> Pairs:
    """The list as an array. Raises MethodError unless it has one number per rotated pair."""
    pairs = geometry.rotary_dim // 2
    if len(divisors) != pairs:
        raise MethodError(
            f"longrope: {name} has {len(divisors)} numbers, but this model rotates {pairs} pairs "
            f"(rotary_dim {geometry.rotary_dim}); give {pairs}, or leave {name} out for the default list."
        )
    return np.array(divisors, dtype=np.float64)


def attention(params: LongRope) -> float:
    """A: as given, else sqrt(1 + ln s / ln L0) (arXiv:2402.13753, as released)."""
    if not isinstance(params.attention_factor, str):
        return params.attention_factor
    if params.window < 2:
        raise MethodError(
            f"longrope: a window of {params.window} token has no attention_factor (ln 1 = 0); "
            "give attention_factor, or the trained window as original_max_position_embeddings."
        )
    return math.sqrt(1.0 + math.log(params.s) / math.log(params.window))


def switches(geometry: RopeGeometry, params: LongRope) -> bool:
    """The lists differ, so the rotation changes at the window."""
    return longrope(geometry, params, params.window) != longrope(geometry, params, params.window + 1)


def two_windows(params: LongRope) -> str | None:
    """A short list; without one, the long list is what is wanted, and goes out as both."""
    return None if params.short_factor is None else "equal lists, or without short_factor"


METHOD = Method(
    name="longrope",
    params=LongRope,
    function=longrope,
    paper="Ding et al. 2024, arXiv:2402.13753",
    summary="For checkpoints that ship lists (Phi-3), or to try any lambda per pair; the default lists are unsearched.",
    formula="lambda_i = short_factor_i for L <= L0, else long_factor_i; A = sqrt(1 + ln s / ln L0)",
    hugging_face="longrope",
    varies=switches,
    two_windows=two_windows,
)
