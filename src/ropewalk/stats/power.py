"""How many documents or trials a question needs, and what the ones at hand can show."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, special

from ropewalk.stats.intervals import ALPHA

CHANCE = 0.8
"""Of finding a difference that is there, where a plan asks how many documents it takes."""
MOST_UNITS = 1_000_000
"""Beyond this many documents the answer is "this cannot be measured this way"."""
_NODE_Q, _WEIGHT2_Q = np.polynomial.legendre.leggauss(200)
_AT_Q, _WEIGHT_Q = (_NODE_Q + 1) / 2, _WEIGHT2_Q / 2


def power(n: int, difference: float, standard_deviation: float, alpha: float = ALPHA) -> float:
    """Chance that a two-sided paired t test of n normal units finds a true mean difference.

    The normal power given the sample's standard deviation, averaged over the chi distribution of the latter by
    Gauss-Legendre quadrature in its quantiles. It is the tail of the noncentral t; scipy 1.17 has that too
    (`stats.nct`, `special.nctdtr`) but returns NaN or garbage for some of the small alphas that Holm asks for.

    Raises:
        ValueError: n < 2, standard_deviation <= 0, or alpha outside (0, 1).
    """
    if n < 2 or not standard_deviation > 0 or not 0 < alpha < 1:
        raise ValueError(f"power needs n={n!r} >= 2, standard_deviation={standard_deviation!r} > 0, 0 < {alpha=} < 1")
    shift = abs(difference) / standard_deviation * math.sqrt(n)
    threshold_Q = float(special.stdtrit(n - 1, 1 - alpha / 2)) * np.sqrt(
        special.gammaincinv((n - 1) / 2, _AT_Q) * 2 / (n - 1)
    )
    return float(_WEIGHT_Q @ (special.ndtr(shift - threshold_Q) + special.ndtr(-shift - threshold_Q)))


def units_needed(
    difference: float, standard_deviation: float, *, alpha: float = ALPHA, chance: float = CHANCE
) -> int | None:
    """Smallest number of documents at which `power` reaches `chance`; None if a million would not do.

    For a perplexity difference of x % the difference is log(1 + x/100) nats/token, and the standard deviation is that
    of the documents' differences in mean nll. Divide alpha by the number of comparisons that will be corrected for.

    Raises:
        ValueError: difference 0, standard_deviation <= 0, alpha or chance outside (0, 1).
    """
    if difference == 0 or not 0 < chance < 1:
        raise ValueError(f"units_needed: difference={difference!r} must not be 0 and chance={chance!r} lie in (0, 1)")
    if power(MOST_UNITS, difference, standard_deviation, alpha) < chance:
        return None
    few, many = 1, 2
    while power(many, difference, standard_deviation, alpha) < chance:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if power(middle, difference, standard_deviation, alpha) < chance else (few, middle)
    return many


def detectable(n: int, standard_deviation: float, *, alpha: float = ALPHA, chance: float = CHANCE) -> float:
    """Smallest true mean difference that n documents find with the given chance, in the unit of standard_deviation.

    Raises:
        ValueError: n < 2, standard_deviation <= 0, alpha or chance outside (0, 1), or chance <= alpha.
    """
    if not alpha < chance < 1:
        raise ValueError(f"detectable: chance={chance!r} must lie between alpha={alpha!r} and 1")

    def gap(difference: float) -> float:
        return power(n, difference, 1.0, alpha) - chance

    high = 1.0
    while gap(high) < 0:
        high *= 2
    return standard_deviation * float(optimize.root_scalar(gap, bracket=(0.0, high)).root)


def smallest_mcnemar_p(trials: int) -> float:
    """The p of exact McNemar when one configuration succeeds at every trial and the other at none: none is clearer.

    Raises:
        ValueError: trials < 1.
    """
    if trials < 1:
        raise ValueError(f"trials={trials!r} must be >= 1")
    return min(1.0, 2.0 ** (1 - trials))


def trials_needed(comparisons: int, alpha: float = ALPHA) -> int:
    """Fewest trials at which even the clearest result survives Holm's correction over so many comparisons.

    Raises:
        ValueError: comparisons < 1 or alpha outside (0, 1).
    """
    if comparisons < 1 or not 0 < alpha < 1:
        raise ValueError(f"trials_needed: comparisons={comparisons!r} must be >= 1 and alpha={alpha!r} lie in (0, 1)")
    return next(trials for trials in range(1, 2000) if smallest_mcnemar_p(trials) * comparisons <= alpha)


def with_windows(standard_deviation: float, between: float, windows: int) -> float:
    """Standard deviation over documents of a mean over so many windows of each, from that over single windows.

    `between` is the share of the variance that is between documents (`clusters.between`).

    Raises:
        ValueError: a share outside [0, 1], or windows < 1.
    """
    if not 0 <= between <= 1 or windows < 1:
        raise ValueError(f"with_windows: {between=} must lie in [0, 1] and {windows=} be at least 1")
    return standard_deviation * math.sqrt(between + (1 - between) / windows)


def units_for_width(half_width: float, standard_deviation: float, confidence: float = 0.95) -> int | None:
    """Smallest number of documents whose t interval reaches no further than half_width; None if a million would not do.

    Divide 1 - confidence by the number of intervals that shall hold together.

    Raises:
        ValueError: half_width or standard_deviation <= 0, or confidence outside (0, 1).
    """
    if not half_width > 0 or not standard_deviation > 0 or not 0 < confidence < 1:
        raise ValueError(f"units_for_width: {half_width=} and {standard_deviation=} must be > 0, {confidence=} a share")

    def wide(n: int) -> bool:
        return float(special.stdtrit(n - 1, 0.5 + confidence / 2)) * standard_deviation > half_width * math.sqrt(n)

    if wide(MOST_UNITS):
        return None
    few, many = 1, 2
    while wide(many):
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if wide(middle) else (few, middle)
    return many
