"""How far the best set hangs on a single document, and what ranks, which no document can sway far, say of it.

Both are second opinions about blocks of losses; counts are left alone, as every trial weighs the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ropewalk.stats.best import best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.intervals import ALPHA, FloatArray

TRIED = 8
"""Documents left out in turn, those with the most leverage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Without:
    """The best set had one document not been measured.

    Attributes:
        unit: the document.
        members: those that could be the best without it, best first.
    """

    unit: str
    members: tuple[str, ...]


def most_influential(block: Block, alpha: float = ALPHA) -> Without | None:
    """The document without which the best set differs most, and that set; None if no document changes it.

    Tried are the TRIED documents with the most leverage: those that pull some difference from the observed best
    furthest, in standard errors.
    """
    if block.counts or len(block.units) < 3 or len(block.labels) < 2:
        return None
    members = set(best_set(block, alpha).members)
    rest = (_without(block, int(i)) for i in np.argsort(-_leverage(block), kind="stable")[:TRIED])
    tried = [Without(unit=unit, members=best_set(left, alpha).members) for unit, left in rest if left is not None]
    most = max(tried, key=lambda each: len(members.symmetric_difference(each.members)), default=None)
    return most if most is not None and set(most.members) != members else None


def by_ranks(block: Block, alpha: float = ALPHA) -> tuple[str, ...]:
    """Those whose mean rank over documents cannot be told from the lowest one, lowest first.

    Within every document the configurations are ranked; two mean ranks differ if they are further apart than Nemenyi's
    critical difference `q(alpha, C) / sqrt(2) * sqrt(C (C + 1) / (6 N))` (Nemenyi 1963; Demsar 2006, JMLR 7, 1-30),
    which is one correction for all pairs. It asks who does better on most documents, not who has the lower mean: a
    configuration that fails on a few is ranked last there and no worse.
    """
    nll_CN = np.divide(
        block.numerators_CN,
        block.denominators_CN,
        out=np.full_like(block.numerators_CN, np.nan),
        where=block.denominators_CN > 0,
    )
    nll_CN = nll_CN[:, ~np.isnan(nll_CN).any(axis=0)]
    count, n = nll_CN.shape
    if count < 2 or n == 0:
        return block.labels
    mean_C = stats.rankdata(nll_CN, axis=0).mean(axis=1)
    furthest = float(stats.studentized_range.ppf(1 - alpha, count, math.inf)) * math.sqrt(count * (count + 1) / 12 / n)
    order = np.argsort(mean_C, kind="stable")
    return tuple(block.labels[i] for i in order if mean_C[i] <= mean_C.min() + furthest)


def _leverage(block: Block) -> FloatArray:
    """`[N]`: how far each document pulls a difference from the observed best, at most, in standard errors."""
    total_C1 = block.denominators_CN.sum(axis=1, keepdims=True)
    pull_CN = (block.numerators_CN - block.values_C[:, None] * block.denominators_CN) / total_C1
    apart_CN = pull_CN - pull_CN[int(block.losses_C.argmin())]
    error_C1 = np.sqrt((apart_CN**2).sum(axis=1, keepdims=True))
    return np.divide(np.abs(apart_CN), error_C1, out=np.zeros_like(apart_CN), where=error_C1 > 0).max(axis=0)


def _without(block: Block, index: int) -> tuple[str, Block | None]:
    """A document's name, and the block without it; None where some configuration would have nothing scored."""
    numerators_CN, denominators_CN = (np.delete(x, index, axis=1) for x in (block.numerators_CN, block.denominators_CN))
    units = block.units[:index] + block.units[index + 1 :]
    if not (denominators_CN.sum(axis=1) > 0).all():
        return block.units[index], None
    return block.units[index], replace(block, units=units, numerators_CN=numerators_CN, denominators_CN=denominators_CN)
