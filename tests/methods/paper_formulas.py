"""The methods written a second time, from the papers, with 40 digits (mpmath) and none of ropewalk's code.

Each function returns (inv_freq, attention_factor). Textbook forms on purpose: sums where the package writes
1 + ramp (1/s - 1), a new base where the package divides, loops where it counts.

Origin of each formula: linear arXiv:2306.15595 eq. 4; NTK-aware, by parts, dynamic, YaRN arXiv:2309.00071
sections 3.1 to 3.4 and its released code (index ramp); Llama 3 reference code; LongRoPE arXiv:2402.13753 section 3
and its released code; ABF arXiv:2309.16039; p-RoPE arXiv:2410.06205; MrRoPE arXiv:2601.22181; CoPE arXiv:2602.05258;
NTK fixed and mixed kexue.fm/archives/9706; Resonance arXiv:2403.00071.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mpmath as mp

mp.mp.dps = 40
Reference = tuple[list[mp.mpf], mp.mpf]


def plain(d: int, b: float) -> list[mp.mpf]:
    return [mp.mpf(b) ** (-mp.mpf(2 * i) / d) for i in range(d // 2)]


def linear(d: int, b: float, window: int, length: int, factor: float) -> Reference:
    return [f / factor for f in plain(d, b)], mp.mpf(1)


def ntk_aware(d: int, b: float, window: int, length: int, factor: float) -> Reference:
    return plain(d, mp.mpf(b) * mp.mpf(factor) ** (mp.mpf(d) / (d - 2))), mp.mpf(1)


def dynamic_ntk(d: int, b: float, window: int, length: int, factor: float) -> Reference:
    alpha = mp.mpf(factor) * length / window - (mp.mpf(factor) - 1) if length > window else mp.mpf(1)
    return ntk_aware(d, b, window, length, alpha)


def ntk_by_parts(
    d: int, b: float, window: int, length: int, factor: float, alpha: float = 1, beta: float = 32
) -> Reference:
    result = []
    for f in plain(d, b):
        wavelength = 2 * mp.pi / f
        r = window / wavelength
        if r < alpha:
            gamma = mp.mpf(0)
        elif r > beta:
            gamma = mp.mpf(1)
        else:
            gamma = (r - alpha) / (mp.mpf(beta) - alpha)
        result.append((1 - gamma) * f / factor + gamma * f)
    return result, mp.mpf(1)


def llama3(
    d: int,
    b: float,
    window: int,
    length: int,
    factor: float = 8,
    low_freq_factor: float = 1,
    high_freq_factor: float = 4,
) -> Reference:
    return ntk_by_parts(d, b, window, length, factor, alpha=low_freq_factor, beta=high_freq_factor)


def index_ramp(d: int, b: float, window: int, beta_fast: float, beta_slow: float, truncate: bool) -> list[mp.mpf]:
    def dimension(rotations: float) -> mp.mpf:
        return d * mp.log(window / (2 * mp.pi * mp.mpf(rotations))) / (2 * mp.log(b))

    low, high = dimension(beta_fast), dimension(beta_slow)
    if truncate:
        low, high = mp.floor(low), mp.ceil(high)
    low, high = max(low, mp.mpf(0)), min(high, mp.mpf(d - 1))
    if low == high:
        high += mp.mpf("0.001")
    return [min(max((i - low) / (high - low), mp.mpf(0)), mp.mpf(1)) for i in range(d // 2)]


def yarn(
    d: int,
    b: float,
    window: int,
    length: int,
    factor: float,
    beta_fast: float = 32,
    beta_slow: float = 1,
    attention_factor: float | None = None,
    mscale: float | None = None,
    mscale_all_dim: float | None = None,
    truncate: bool = True,
    ramp: str = "index",
) -> Reference:
    def sharpened(scale: float) -> mp.mpf:
        return mp.mpf(scale) * mp.log(factor) / 10 + 1

    attention = sharpened(1 if mscale is None else mscale)
    if mscale_all_dim is not None:
        attention /= sharpened(mscale_all_dim)
    if attention_factor is not None:
        attention = mp.mpf(attention_factor)
    if ramp == "turns":
        return ntk_by_parts(d, b, window, length, factor, alpha=beta_slow, beta=beta_fast)[0], attention
    slow = index_ramp(d, b, window, beta_fast, beta_slow, truncate)
    blended = [f / factor * share + f * (1 - share) for f, share in zip(plain(d, b), slow, strict=True)]
    return blended, attention


def softmax(factor: float, mscale_all_dim: float) -> mp.mpf:
    """What DeepSeek-V3's released code multiplies its softmax scale by."""
    return (mp.mpf(mscale_all_dim) * mp.log(factor) / 10 + 1) ** 2


def longrope(
    d: int,
    b: float,
    window: int,
    length: int,
    factor: float,
    long_factor: Sequence[float] | None = None,
    short_factor: Sequence[float] | None = None,
    attention_factor: float | None = None,
) -> Reference:
    if long_factor is None:
        long_factor = [factor * share + (1 - share) for share in index_ramp(d, b, window, 32, 1, True)]
    if short_factor is None:
        short_factor = [1] * (d // 2)
    divisors = short_factor if length <= window else long_factor
    attention = mp.sqrt(1 + mp.log(factor) / mp.log(window)) if attention_factor is None else mp.mpf(attention_factor)
    return [f / mp.mpf(divisor) for f, divisor in zip(plain(d, b), divisors, strict=True)], attention


def abf(d: int, b: float, window: int, length: int, rope_theta: float) -> Reference:
    return plain(d, rope_theta), mp.mpf(1)


def mrrope(d: int, b: float, window: int, length: int, factor: float, mode: str = "pro") -> Reference:
    frequencies = plain(d, b)
    rotations = [window * f / (2 * mp.pi) for f in frequencies]
    fast = [i for i, r in enumerate(rotations) if r > 32]
    never = [i for i, r in enumerate(rotations) if r < 1]
    lo, hi = (fast[-1] if fast else 0), (never[0] if never else d // 2)
    n = mp.mpf(hi - lo)
    result = []
    for i, f in enumerate(frequencies):
        t = min(max(i - lo, 0), n)
        exponent = t * (t + 1) / (n * (n + 1)) if mode == "pro" else t / n
        result.append(f / mp.mpf(factor) ** exponent)
    return result, 1 + mp.log(factor) / 10


def proportional(
    d: int, b: float, window: int, length: int, partial_rotary_factor: float, factor: float = 1
) -> Reference:
    turning = int(mp.floor(mp.mpf(partial_rotary_factor) * d / 2))
    return [f / factor if i < turning else mp.mpf(0) for i, f in enumerate(plain(d, b))], mp.mpf(1)


def searched(d: int, b: float, window: int, length: int, file: dict[str, Any]) -> Reference:
    return [f / mp.mpf(each) for f, each in zip(plain(d, b), file["lambda"], strict=True)], mp.mpf(1.2)


BELOW = {"linear": linear, "ntk_aware": ntk_aware, "ntk_by_parts": ntk_by_parts, "yarn": yarn}


def cope(
    d: int, b: float, window: int, length: int, factor: float = 1, on: str = "yarn", share: float = 20 / 64
) -> Reference:
    frequencies, attention = BELOW[on](d, b, window, length, factor)
    n = int(mp.floor(mp.mpf(share) * (d // 2)))
    for k in range(n if n > 1 else 0):
        frequencies[d // 2 - n + k] *= mp.cos(mp.pi * k / (2 * (n - 1))) ** 2  # (1 + cos x)/2 = cos^2(x/2)
    frequencies[-1] = mp.mpf(0) if n > 1 else frequencies[-1]
    return frequencies, attention


def ntk_fixed(d: int, b: float, window: int, length: int, factor: float) -> Reference:
    larger = mp.mpf(b) * factor  # as vLLM writes it: a larger base, and all pairs divided once more
    return [f / mp.mpf(factor) ** (mp.mpf(2) / d) for f in plain(d, larger)], mp.mpf(1)


def ntk_mixed(d: int, b: float, window: int, length: int, factor: float, mixed_b: float = 0.625) -> Reference:
    a = mp.log(factor) / mp.mpf(d // 2) ** mp.mpf(mixed_b)
    return [f / mp.exp(a * mp.mpf(i + 1) ** mp.mpf(mixed_b)) for i, f in enumerate(plain(d, b))], mp.mpf(1)


def resonance(d: int, b: float, window: int, length: int, factor: float, on: str = "yarn") -> Reference:
    frequencies, attention = BELOW[on](d, b, window, length, factor)
    return [2 * mp.pi / mp.nint(2 * mp.pi / f) for f in frequencies], attention


FORMULAS: dict[str, Any] = {
    "linear": linear,
    "ntk_aware": ntk_aware,
    "ntk_by_parts": ntk_by_parts,
    "dynamic_ntk": dynamic_ntk,
    "yarn": yarn,
    "llama3": llama3,
    "longrope": longrope,
    "abf": abf,
    "mrrope": mrrope,
    "proportional": proportional,
    "searched": searched,
    "cope": cope,
    "ntk_fixed": ntk_fixed,
    "ntk_mixed": ntk_mixed,
    "resonance": resonance,
}
