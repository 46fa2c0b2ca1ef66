"""The formulas that several methods share: turns, ramps, the blend, the temperature.

Notation: f_i = unscaled inv_freq, L0 = window, r_i = L0 f_i / 2 pi (turns in the window), s = factor.
A ramp is the share of f that is kept, per pair: 1 keeps f, 0 divides it by s.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import MethodError
from ropewalk.rope import RopeGeometry

Pairs = NDArray[np.float64]
"""One number per rotated pair: float64 `[rotary_dim/2]`."""


def turns(geometry: RopeGeometry, window: int) -> Pairs:
    """r_i, how many turns pair i completes in the window (YaRN, arXiv:2309.00071, eq. 14)."""
    return window * geometry.unscaled_inv_freq / (2 * math.pi)


def ramp_over_turns(geometry: RopeGeometry, window: int, low: float, high: float) -> Pairs:
    """gamma(r) = clip((r - low)/(high - low), 0, 1) (arXiv:2309.00071, eq. 18; Llama 3 with other bounds)."""
    return np.clip((turns(geometry, window) - low) / (high - low), 0.0, 1.0)


def ramp_over_index(
    geometry: RopeGeometry, window: int, beta_fast: float, beta_slow: float, truncate: bool, method: str
) -> Pairs:
    """m_i = 1 - clip((i - low)/(high - low), 0, 1), the ramp of YaRN's released code.

    D(n) = d ln(L0 / 2 pi n) / (2 ln b) is the (real) index of the pair that completes n turns;
    low = floor D(beta_fast), high = ceil D(beta_slow), not rounded without `truncate`, low >= 0, high <= d - 1.
    Equal bounds are 0.001 apart, as in transformers.

    Raises:
        MethodError: crossed bounds (no pair completes beta_slow turns in so short a window), where the released
            code keeps the slow dimensions and divides the fast ones, or the reverse.
    """
    d, log_theta = geometry.rotary_dim, math.log(geometry.rope_theta)
    low, high = (d * math.log(window / (n * 2 * math.pi)) / (2 * log_theta) for n in (beta_fast, beta_slow))
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    if low > high:
        raise MethodError(
            f"{method}: beta_fast={beta_fast:g} and beta_slow={beta_slow:g} leave no ramp in a window of {window} "
            f"tokens (rope_theta {geometry.rope_theta:g}, rotary_dim {d}); use ramp: turns, or other bounds."
        )
    i = np.arange(d // 2, dtype=np.float64)
    return 1.0 - np.clip((i - low) / (high - low or 0.001), 0.0, 1.0)


def blend(inv_freq: Pairs, kept: Pairs, s: float) -> Pairs:
    """inv_freq / lambda with 1/lambda = (1 - kept)/s + kept, a harmonic blend.

    Written so that s = 1 returns inv_freq to the last bit.
    """
    return inv_freq * (1.0 + (1.0 - kept) * (1.0 / s - 1.0))


def temperature(s: float, mscale: float = 1.0) -> float:
    """A = 0.1 mscale ln s + 1 (arXiv:2309.00071, eq. 22; mscale as in DeepSeek's and YaRN's code)."""
    return 0.1 * mscale * math.log(s) + 1.0


def softmax_factor(geometry: RopeGeometry, s: float, mscale_all_dim: float | None) -> float:
    """(0.1 mscale_all_dim ln s + 1)^2 where attention reads mscale_all_dim (DeepSeek's code), else 1."""
    return temperature(s, mscale_all_dim) ** 2 if geometry.softmax_mscale and mscale_all_dim else 1.0
