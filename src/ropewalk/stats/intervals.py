"""A value with its uncertainty, and Wilson's interval of a proportion.

The unit is the document or the trial, never the token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

ALPHA = 0.05
"""The chance of an error that is taken, of one claim or of a family of them."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate over n units; low and high are both None where the data hold no interval.

    Attributes:
        value: the estimate, in the unit of the data.
        low: lower end of the two-sided interval, or None.
        high: upper end, or None.
        n: documents or trials that contributed.
    """

    value: float
    low: float | None
    high: float | None
    n: int

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval has two ends or none, got low={self.low!r}, high={self.high!r}")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"the interval [{self.low!r}, {self.high!r}] must contain its value {self.value!r}")

    def exp(self) -> Interval:
        """The same interval on the exponential scale: mean nll to perplexity, a difference of nll to a ratio."""
        low = None if self.low is None else _exp(self.low)
        high = None if self.high is None else _exp(self.high)
        return Interval(value=_exp(self.value), low=low, high=high, n=self.n)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion of n trials (Wilson 1927), without continuity correction.

    Raises:
        ValueError: successes outside 0..n, n < 1, or confidence outside (0, 1).
    """
    check_confidence(confidence)
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"successes={successes!r} of n={n!r} must satisfy 0 <= successes <= n and n >= 1")
    value = successes / n
    ends = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Interval(value=value, low=min(float(ends.low), value), high=max(float(ends.high), value), n=n)


def finite(values: ArrayLike, name: str) -> FloatArray:
    """The values as float64 `[N]`, or a ValueError that names the first one that is not a finite number."""
    values_N = np.asarray(values, dtype=np.float64)
    if values_N.ndim != 1 or values_N.size == 0:
        raise ValueError(f"{name} must be a list of at least one number, got shape {values_N.shape}")
    if not np.isfinite(values_N).all():
        unit = int(np.flatnonzero(~np.isfinite(values_N))[0])
        raise ValueError(f"{name}[{unit}]={values_N[unit]} is not finite; leave such a cell out and state the reason")
    return values_N


def same_length(a_N: FloatArray, b_N: FloatArray) -> None:
    """Paired lists have one entry per unit each, or ValueError."""
    if a_N.shape != b_N.shape:
        raise ValueError(f"paired lists must be equally long, got {a_N.size} and {b_N.size}; align them by unit first")


def check_confidence(confidence: float) -> None:
    """0 < confidence < 1, or ValueError."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r} must lie between 0 and 1, for example 0.95")


def _exp(value: float) -> float:
    """math.exp, but infinite where a float cannot hold it (a mean nll above 709 nats)."""
    return math.exp(value) if value < 709.0 else math.inf
