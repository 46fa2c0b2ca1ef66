"""Do two metrics rank the configurations alike? Asked within one length; pooling lengths only measures length."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from ropewalk.stats.blocks import Block
from ropewalk.stats.intervals import Interval, check_confidence, finite, same_length


def spearman(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval | None:
    """Spearman's rank correlation of two lists `[C]`, with the Fisher z interval of Bonett & Wright (2000,
    doi:10.1007/BF02294183).

    `atanh(r) -/+ z * sqrt((1 + r^2/2) / (n - 3))`. Ranks, because perplexities of broken configurations differ by
    orders of magnitude and would alone decide Pearson's r. None if either side does not vary or n < 3; no interval for
    n < 5 or |r| = 1, where the normal approximation says nothing.

    Raises:
        ValueError: empty, unequally long or non-finite lists.
    """
    check_confidence(confidence)
    a_C, b_C = finite(a, "a"), finite(b, "b")
    same_length(a_C, b_C)
    n = a_C.size
    if n < 3 or np.ptp(a_C) == 0 or np.ptp(b_C) == 0:
        return None
    r = max(-1.0, min(1.0, float(np.corrcoef(stats.rankdata(a_C), stats.rankdata(b_C))[0, 1])))
    if n < 5 or abs(r) > 1 - 1e-12:
        return Interval(value=r, low=None, high=None, n=n)
    reach = float(special.ndtri(0.5 + confidence / 2)) * math.sqrt((1 + r * r / 2) / (n - 3))
    return Interval(value=r, low=math.tanh(math.atanh(r) - reach), high=math.tanh(math.atanh(r) + reach), n=n)


def rank_agreement(a: Block, b: Block, confidence: float = 0.95) -> Interval | None:
    """Spearman's correlation of two metrics over the configurations that both blocks hold, at one length.

    Both are turned so that lower is better: +1 means that they order the configurations alike. n counts different
    measurements: configurations equal in both metrics are one. The interval treats the grid's configurations as a
    sample of those one could have tried; it is silent about other documents.

    Raises:
        ValueError: the blocks are of different lengths.
    """
    if a.lengths != b.lengths:
        raise ValueError(f"correlate within a length: got {a.metric} at {a.lengths} and {b.metric} at {b.lengths}")
    loss_a, loss_b = dict(zip(a.labels, a.losses_C, strict=True)), dict(zip(b.labels, b.losses_C, strict=True))
    outcomes = {label: (a.row(label)[0].tobytes(), b.row(label)[0].tobytes()) for label in a.labels if label in loss_b}
    distinct = list({outcome: label for label, outcome in outcomes.items()}.values())
    if not distinct:
        return None
    return spearman([loss_a[label] for label in distinct], [loss_b[label] for label in distinct], confidence)
