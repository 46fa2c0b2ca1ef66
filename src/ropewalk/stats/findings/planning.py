"""Findings about how much was measured, and how much more would settle the question."""

from __future__ import annotations

import math
from itertools import combinations

from scipy import special

from ropewalk.stats.best import best_set, distinct
from ropewalk.stats.blocks import Block
from ropewalk.stats.findings.finding import Finding, percent, share
from ropewalk.stats.findings.quality import deciding_block
from ropewalk.stats.intervals import ALPHA, Interval
from ropewalk.stats.measured import Measured
from ropewalk.stats.paired import difference_estimate
from ropewalk.stats.power import CHANCE, MOST_UNITS, detectable, units_needed

ENOUGH_DOCUMENTS = 8
MOST_ERRORS = 5.0
"""Standard errors that a difference may have to reach after correction before documents count as few."""


def few_documents(run: Measured) -> list[Finding]:
    """One document has no interval; a few, or very many comparisons, leave only very clear differences."""
    blocks = [block for key, whole in run.blocks.items() if not whole.counts and (block := run.block(*key))]
    blocks = [block for block in blocks if len(block.labels) > 1]
    if not blocks:
        return []
    n = min(len(block.units) for block in blocks)
    if n == 1:
        return [
            Finding(
                kind="few_documents",
                sentence="One document was measured: no interval and no test is possible, every difference may be "
                f"this one text; {ENOUGH_DOCUMENTS} or more are advised.",
                evidence={"documents": 1, "advised": ENOUGH_DOCUMENTS},
                severity="warning",
            )
        ]
    count = max(distinct(block) for block in blocks if len(block.units) == n)
    return _few(n, count, max(1, count * (count - 1) // 2))


def _few(n: int, configurations: int, pairs: int) -> list[Finding]:
    critical = _critical(n, pairs)
    if n >= ENOUGH_DOCUMENTS and critical <= MOST_ERRORS:
        return []
    advised = next(m for m in range(ENOUGH_DOCUMENTS, 1000) if _critical(m, pairs) <= MOST_ERRORS or m == 999)
    then = _critical(advised, pairs)
    return [
        Finding(
            kind="few_documents",
            sentence=f"With {n} documents a difference between two of {configurations} configurations must be "
            f"{critical:.1f} times its standard error to count after correction over {pairs:,} "
            f"pair{'s' * (pairs > 1)}; {advised} documents or more are advised (there {then:.1f} times).",
            evidence={
                "documents": n,
                "distinct_configurations": configurations,
                "pairs": pairs,
                "critical_t": critical,
                "advised": advised,
                "critical_t_then": then,
            },
            severity="warning" if n < ENOUGH_DOCUMENTS else "caution",
        )
    ]


def _critical(n: int, pairs: int) -> float:
    """Standard errors at which a paired t test of n documents survives Bonferroni over so many pairs."""
    return float(special.stdtrit(n - 1, 1 - ALPHA / 2 / pairs))


def documents_needed(run: Measured, difference_percent: float = 1.0) -> list[Finding]:
    """At each length with a tie, the documents that would tell the best from its nearest rival."""
    found: list[Finding] = []
    for length in run.lengths:
        block = deciding_block(run, length)
        if block is not None and block.column.is_ratio:
            found += _needed(block, difference_percent)
    return found


def _needed(block: Block, difference_percent: float) -> list[Finding]:
    members = best_set(block, ALPHA).members
    rivals = [pair for pair in combinations(members[:10], 2) if pair[0] == members[0]]
    pairs = [(rival, difference_estimate(*block.row(rival), *block.row(winner))) for winner, rival in rivals]
    tested = [(rival, estimate) for rival, estimate in pairs if estimate.standard_error]
    if not tested:
        return []
    rival, estimate = tested[0]
    deviation = (estimate.standard_error or 0.0) * math.sqrt(estimate.n)
    needed = units_needed(math.log1p(difference_percent / 100), deviation, alpha=ALPHA, chance=CHANCE)
    nats = detectable(estimate.n, deviation, alpha=ALPHA, chance=CHANCE)
    seen = Interval(value=nats, low=None, high=None, n=estimate.n).exp().value
    if needed is not None and needed <= estimate.n:
        return []
    return [
        Finding(
            kind="documents_needed",
            sentence=f"To tell {members[0]} from {rival} at {block.lengths[0]:,} if their {block.column.phrase} truly "
            f"differs by {difference_percent:g} % takes {f'about {needed:,}' if needed else f'over {MOST_UNITS:,}'} "
            f"documents like these ({share(CHANCE)} chance, one planned comparison); the {estimate.n} at hand "
            f"find differences of {percent(seen).lstrip('+') if math.isfinite(seen) else 'any number'} or more.",
            evidence={
                "length": block.lengths[0],
                "metric": block.metric,
                "pair": [members[0], rival],
                "standard_deviation": deviation,
                "documents": estimate.n,
                "difference_percent": difference_percent,
                "documents_needed": needed,
                "detectable_nats": nats,
                "detectable_ratio": seen if math.isfinite(seen) else None,
                "most_documents": MOST_UNITS,
                "alpha": ALPHA,
                "chance": CHANCE,
            },
            severity="note",
        )
    ]
