"""The set of configurations that cannot be told apart from the best: pairs, with Bonferroni-Holm stepping down.

Comparing everything with the observed winner and correcting for those comparisons alone forgets that the winner was
picked for being low: among 43 independent configurations that do not differ it finds some "worse than the best" in a
quarter of experiments (docs/statistics.md). So every pair still in the running counts as a comparison:

1. of the m configurations left, take the pair with the smallest p;
2. if p * m(m-1)/2 <= alpha, the worse of the two leaves, with all of its pairs; otherwise stop;
3. repeat. Those left are the set. The observed winner is never the worse one, so it is always in it.

Every configuration that truly is best stays in the set in at least 95 % of simulated experiments, whether the
configurations are independent, correlated, skewed or unequally noisy (tests/stats/test_calibration_best.py). What it
assumes is that the documents at hand show what the others are like: a configuration that fails on one document in ten
looks better than it is where none of those was measured, and no test can know (docs/statistics.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from ropewalk.stats.blocks import Block
from ropewalk.stats.intervals import ALPHA, FloatArray
from ropewalk.stats.pooled import EXACT, shortened, skewness

ASSUMING = "failures on texts unlike these aside"
"""What bounds the chance of an error, in a reader's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestSet:
    """Who may be the best.

    Attributes:
        winner: the observed best; None if nothing could be compared.
        members: the winner and all that cannot be told apart from it, best first.
        excluded: the others with the adjusted p at which they left, in that order.
        distinct: different measurements among the configurations; equal rotations are one.
        n: documents or trials.
        alpha: chance, at most, of dropping any configuration that is truly best.
    """

    winner: str | None
    members: tuple[str, ...]
    excluded: tuple[tuple[str, float], ...]
    distinct: int
    n: int
    alpha: float


def best_set(block: Block, alpha: float = ALPHA) -> BestSet:
    """Apply the procedure above to one block.

    Configurations with identical outcomes are one measurement and enter as one candidate.
    """
    if not block.labels or not block.units:
        return BestSet(winner=None, members=(), excluded=(), distinct=0, n=len(block.units), alpha=alpha)
    groups, order = block.once(_leaving)
    left = [(g, p) for g, p in order if p <= alpha * block.share]
    gone, losses_C = {g for g, _ in left}, block.losses_C
    members = sorted((i for g, own in enumerate(groups) if g not in gone for i in own), key=lambda i: (losses_C[i], i))
    return BestSet(
        winner=block.labels[members[0]],
        members=tuple(block.labels[i] for i in members),
        excluded=tuple((block.labels[i], p) for g, p in left for i in groups[g]),
        distinct=len(groups),
        n=len(block.units),
        alpha=alpha,
    )


def _leaving(block: Block) -> tuple[list[list[int]], list[tuple[int, float]]]:
    """Configurations grouped by equal outcomes, and the order in which groups would leave at any alpha."""
    groups = block.once(_identical)
    apart = block.only([block.labels[group[0]] for group in groups])
    return groups, step_down(apart.losses_C, pairwise_p(apart), 1.0)[1]


def distinct(block: Block) -> int:
    """Different measurements among the configurations; equal outcomes are one."""
    return len(block.once(_identical))


def step_down(losses_C: FloatArray, p_CC: FloatArray, alpha: float) -> tuple[list[int], list[tuple[int, float]]]:
    """Indices that stay, and those that leave with their adjusted p (never falling along the way).

    Pairs without a test (NaN) exclude nobody.
    """
    p_CC = np.where(np.isnan(p_CC), 1.0, p_CC)
    np.fill_diagonal(p_CC, np.inf)
    rival_C = p_CC.argmin(axis=1)
    smallest_C = p_CC[np.arange(losses_C.size), rival_C]
    left: list[tuple[int, float]] = []
    adjusted = 0.0
    for in_running in range(losses_C.size, 1, -1):
        i = int(smallest_C.argmin())
        adjusted = max(adjusted, min(1.0, float(smallest_C[i]) * in_running * (in_running - 1) / 2))
        if adjusted > alpha:
            break
        worse = i if losses_C[i] > losses_C[rival_C[i]] else int(rival_C[i])
        left.append((worse, adjusted))
        p_CC[worse, :] = p_CC[:, worse] = np.inf
        stale = np.flatnonzero(rival_C == worse)
        rival_C[stale] = p_CC[stale].argmin(axis=1)
        smallest_C[stale] = p_CC[stale, rival_C[stale]]
        smallest_C[worse] = np.inf
    gone = {index for index, _ in left}
    return [index for index in range(losses_C.size) if index not in gone], left


def pairwise_p(block: Block) -> FloatArray:
    """`[C, C]` two-sided p of each pair, as `Block.paired` gives them one by one; NaN where there is no test."""
    return _mcnemar_p(block.numerators_CN) if block.counts else _paired_t_p(block)


def _mcnemar_p(successes_CN: FloatArray) -> FloatArray:
    """Exact McNemar of all pairs, `[C, C]`: twice the binomial(discordant, 1/2) tail, at most 1."""
    only_CC = successes_CN @ (1 - successes_CN).T
    discordant_CC = only_CC + only_CC.T
    tail_CC = special.bdtr(np.minimum(only_CC, only_CC.T), discordant_CC.astype(np.int64), 0.5)
    return np.minimum(1.0, 2 * tail_CC)


def _paired_t_p(block: Block) -> FloatArray:
    """`paired_difference` of all pairs, `[C, C]`, a row at a time (C*C*N numbers at once would be gigabytes)."""
    x_CN, y_CN, value_C = block.numerators_CN, block.denominators_CN, block.values_C
    total_C1 = y_CN.sum(axis=1, keepdims=True)
    effective_C = total_C1[:, 0] ** 2 / (y_CN**2).sum(axis=1)
    used_N = (y_CN > 0).any(axis=0)
    rest_CN = total_C1 - y_CN
    change_CN = np.divide(value_C[:, None] * y_CN - x_CN, rest_CN, out=np.zeros_like(x_CN), where=rest_CN > 0)[
        :, used_N
    ]
    n = int(used_N.sum())
    p_CC = np.full((value_C.size, value_C.size), np.nan)
    for index in range(value_C.size if n > 1 else 0):
        rest = slice(index, None)  # p of (i, j) and of (j, i) is one number
        apart_C = np.abs(value_C[rest] - value_C[index])
        change_pair_CN = change_CN[rest] - change_CN[index]
        error_C = np.sqrt((change_pair_CN**2).sum(axis=1) * ((n - 1) / n))
        size_C = np.maximum(np.abs(value_C[rest]), abs(value_C[index]))
        seen_C = (n - 1) * np.abs(change_pair_CN).max(axis=1) > EXACT * size_C
        t_C = np.divide(apart_C, error_C, out=np.full_like(error_C, np.nan), where=seen_C)
        t_C = shortened(t_C, np.sign(value_C[index] - value_C[rest]) * skewness(change_pair_CN), n)
        degrees_C = np.maximum(1.0, np.minimum(effective_C[rest], effective_C[index]) - 1)
        p_C = np.where(seen_C | (apart_C != 0), 2 * special.stdtr(degrees_C, -t_C), 1.0)
        p_CC[index, rest] = p_CC[rest, index] = p_C
    return p_CC


def _identical(block: Block) -> list[list[int]]:
    """Indices of the configurations, grouped by equal outcomes, in order of first appearance."""
    groups: dict[bytes, list[int]] = {}
    for index in range(len(block.labels)):
        outcome = block.numerators_CN[index].tobytes() + block.denominators_CN[index].tobytes()
        groups.setdefault(outcome, []).append(index)
    return list(groups.values())
