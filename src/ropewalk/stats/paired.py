"""Two configurations on the same documents or trials: the difference, its interval, its p value; Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ropewalk.stats.intervals import Interval, check_confidence, finite, same_length
from ropewalk.stats.pooled import Estimate, jackknife, pooled


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """a compared with b on the same units.

    Attributes:
        interval: of a - b (`paired_t`, `paired_difference`, `mcnemar_exact`) or of a / b (`paired_ratio`).
        p: two-sided; None where the data hold no test (one unit, or one and the same non-zero difference in all).
    """

    interval: Interval
    p: float | None


def paired_t(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Paired:
    """Mean of a - b over units `[N]` as `paired_difference` gives it. Differences that are all exactly 0 have p = 1.

    Raises:
        ValueError: empty, unequally long or non-finite lists.
    """
    a_N, b_N = finite(a, "a"), finite(b, "b")
    same_length(a_N, b_N)
    return paired_difference(a_N, np.ones_like(a_N), b_N, np.ones_like(b_N), confidence)


def difference_estimate(
    numerators_a: ArrayLike, denominators_a: ArrayLike, numerators_b: ArrayLike, denominators_b: ArrayLike
) -> Estimate:
    """`sum(x_a)/sum(y_a) - sum(x_b)/sum(y_b)` with the jackknife of `ratio_estimate`, of `[N]` units left
    out of both together.

    Equal denominators (perplexity: L-1 tokens in every document) make it the mean of paired differences with n - 1
    degrees of freedom; unequal ones (key tokens) weight by tokens. It carries the skewness of the differences.

    Raises:
        ValueError: as `ratio_estimate`, for a or for b; or lists of different lengths.
    """
    ratio_a, ratio_b = pooled(numerators_a, denominators_a), pooled(numerators_b, denominators_b)
    same_length(ratio_a.changes_N, ratio_b.changes_N)
    used_N = ratio_a.used_N | ratio_b.used_N
    return jackknife(
        ratio_a.value - ratio_b.value,
        (ratio_a.changes_N - ratio_b.changes_N)[used_N],
        min(ratio_a.effective, ratio_b.effective),
        rounding=max(abs(ratio_a.value), abs(ratio_b.value)),
        skewed=True,
    )


def paired_difference(
    numerators_a: ArrayLike,
    denominators_a: ArrayLike,
    numerators_b: ArrayLike,
    denominators_b: ArrayLike,
    confidence: float = 0.95,
) -> Paired:
    """Difference of two pooled ratios on the same documents `[N]`, e.g. of mean nll or of bits per byte, and its t
    test, corrected for skewness (`Estimate`).

    Differences that are all exactly 0 are no difference, and known to be so: p = 1, interval [0, 0].

    Raises:
        ValueError: as `difference_estimate`.
    """
    estimate = difference_estimate(numerators_a, denominators_a, numerators_b, denominators_b)
    p = estimate.p_value()
    if p is None and estimate.n > 1 and estimate.value == 0.0:
        return Paired(interval=Interval(value=0.0, low=0.0, high=0.0, n=estimate.n), p=1.0)
    return Paired(interval=estimate.interval(confidence), p=p)


def paired_ratio(
    numerators_a: ArrayLike,
    denominators_a: ArrayLike,
    numerators_b: ArrayLike,
    denominators_b: ArrayLike,
    confidence: float = 0.95,
) -> Paired:
    """Perplexity of a over perplexity of b, of `[N]` units each: exp of `paired_difference` of summed nll over tokens.

    Raises:
        ValueError: as `paired_difference`.
    """
    paired = paired_difference(numerators_a, denominators_a, numerators_b, denominators_b, confidence)
    return Paired(interval=paired.interval.exp(), p=paired.p)


def mcnemar_exact(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Paired:
    """Difference of two success rates on the same trials `[N]`: exact McNemar p and the Bonett-Price interval.

    p is the two-sided binomial test of the discordant trials (McNemar 1947, exact form); no discordant trial: p = 1.
    The interval adds one trial to each kind of discordance (Bonett & Price 2012, doi:10.3102/1076998611411915), so it
    has width even at 20 of 20 against 20 of 20, and need not agree with p to the last digit. The value stays raw.

    Raises:
        ValueError: empty, unequally long lists, or entries other than 0 and 1.
    """
    check_confidence(confidence)
    a_N, b_N = finite(a, "a"), finite(b, "b")
    same_length(a_N, b_N)
    for name, values_N in (("a", a_N), ("b", b_N)):
        if not np.isin(values_N, (0.0, 1.0)).all():
            raise ValueError(f"{name} must hold 1 for success and 0 for failure, got {values_N.tolist()!r}")
    n, only_a, only_b = a_N.size, int((a_N > b_N).sum()), int((b_N > a_N).sum())
    discordant = only_a + only_b
    p = min(1.0, 2 * float(special.bdtr(min(only_a, only_b), discordant, 0.5)))
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    spread = math.sqrt((share_a + share_b - (share_a - share_b) ** 2) / (n + 2))
    reach = float(special.ndtri(0.5 + confidence / 2)) * spread
    value, centre = (only_a - only_b) / n, share_a - share_b
    low, high = max(-1.0, min(centre - reach, value)), min(1.0, max(centre + reach, value))
    return Paired(interval=Interval(value=value, low=low, high=high, n=n), p=p)


def holm(pvalues: Sequence[float] | ArrayLike) -> list[float]:
    """Holm's (1979) adjusted p values `[M]`, in the order given: reject where adjusted <= alpha, at any dependence.

    `adjusted_(i) = max over j <= i of min(1, (m - j + 1) * p_(j))`, p sorted ascending. No p values: an empty list.

    Raises:
        ValueError: a p value outside [0, 1] or NaN; leave out comparisons that hold no test.
    """
    p_M = np.asarray(pvalues, dtype=np.float64)
    if p_M.size == 0:
        return []
    if p_M.ndim != 1 or not ((p_M >= 0) & (p_M <= 1)).all():
        raise ValueError(f"p values must lie in [0, 1], got {p_M.tolist()!r}; leave out comparisons without a test")
    order_M = np.argsort(p_M, kind="stable")
    stepped_M = np.maximum.accumulate(np.minimum(1.0, p_M[order_M] * np.arange(p_M.size, 0, -1)))
    adjusted_M = np.empty_like(p_M)
    adjusted_M[order_M] = stepped_M
    return [float(p) for p in adjusted_M]
