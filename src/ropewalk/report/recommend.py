"""Which configuration to use at a length, what supports the choice, and what would change it; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ropewalk.errors import ExperimentError
from ropewalk.report.costs import Cost, short_costs, why_no_cost
from ropewalk.stats.best import BestSet, best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.findings.finding import QUALITY
from ropewalk.stats.findings.quality import Direction, against_dropping, deciding_block, direction
from ropewalk.stats.intervals import Interval
from ropewalk.stats.measured import NONE, TRUNCATE, Measured
from ropewalk.stats.paired import Paired


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One configuration with what speaks for and against it at the judged length.

    Attributes:
        value: in the unit of the results table (perplexity, bits per byte, share of passkeys), with its interval.
        against_none, against_truncate: paired on the same documents; None where that was not measured.
        cost: at lengths inside the window; None where unknown.
        passkey: share found at the judged length; None where not measured.
    """

    label: str
    method: str
    params: Mapping[str, Any]
    value: Interval
    against_none: Paired | None
    against_truncate: Paired | None
    cost: Cost | None
    passkey: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The answer for one target length.

    Attributes:
        target: what was asked for, tokens.
        judged_at: the shortest measured length at or beyond it.
        metric: which metric decided.
        choice: the best value within the bound.
        tied: all others that cannot be told apart from it, best first.
        best: the procedure's result over the configurations within the bound.
        too_costly: better values at the judged length, but beyond the bound, best first.
        bound_percent: largest allowed cost at short lengths, per cent; None if any.
        no_cost: why costs are unknown; empty where they are known.
        rotates: the choice has different rotations at different lengths.
        same: those of `tied` that are one measurement with the choice.
        dropping: whether the choice is shown to be better or worse than `truncate`, corrected over all extended
            configurations as the finding is; None where that was not measured or the choice extends nothing.
    """

    target: int
    judged_at: int
    metric: str
    choice: Candidate
    tied: tuple[Candidate, ...]
    best: BestSet
    too_costly: tuple[Candidate, ...]
    bound_percent: float | None
    no_cost: str
    rotates: bool
    same: tuple[str, ...]
    dropping: Direction | None


def recommend(run: Measured, target: int, bound_percent: float | None = None) -> Recommendation:
    """Choose the best value at the target among the configurations whose cost at short lengths is within the bound.

    Raises:
        ExperimentError: nothing was measured at or beyond the target, or no cost is known though one is bounded.
    """
    block = judged_block(run, target)
    costs = short_costs(run, block.lengths[0])
    allowed = _within(run, block, costs, bound_percent)
    best = best_set(allowed)
    assert best.winner is not None
    choice = _candidate(run, block, best.winner, costs)
    outside = block.only([label for label in block.labels if label not in allowed.labels])
    ahead = [label for label in _ranked(outside) if _loss(block, label) < _loss(block, choice.label)]
    prints = {row.fingerprint for row in run.rows if row.label == choice.label}
    return Recommendation(
        target=target,
        judged_at=block.lengths[0],
        metric=block.metric,
        choice=choice,
        tied=tuple(_candidate(run, block, label, costs) for label in best.members if label != choice.label),
        best=best,
        too_costly=tuple(_candidate(run, block, label, costs) for label in ahead),
        bound_percent=bound_percent,
        no_cost="" if choice.label in costs else why_no_cost(run, block.lengths[0]),
        rotates=len(prints) > 1,
        same=tuple(label for label in allowed.same(choice.label) if label in best.members),
        dropping=_dropping(run, block, choice.label),
    )


def _dropping(run: Measured, block: Block, label: str) -> Direction | None:
    rows = against_dropping(run).get(block.lengths[0], ()) if block.metric == "tail" else ()
    return next((direction(row) for row in rows if row.label == label), None)


def judged_block(run: Measured, target: int) -> Block:
    """Outcomes that decide about a target: of the shortest measured length at or beyond it that has any.

    Raises:
        ExperimentError: there is none; says what to run.
    """
    beyond = [length for length in run.lengths if length >= target]
    for length in beyond:
        single = (run.block(metric, length) for metric in QUALITY)
        block = deciding_block(run, length) or next((b for b in single if b is not None and b.labels), None)
        if block is not None:
            return block
    if beyond:
        reason = next((row.reason for row in run.rows if row.length in beyond and row.reason), "no cell is finished")
        raise ExperimentError(
            f"length {target}: no configuration has a value at {beyond[0]} tokens or beyond ({reason}); mend that and "
            "run the experiment again."
        )
    longest = f"the longest length is {run.lengths[-1]}" if run.lengths else "no cell is finished"
    asked = ",".join(map(str, [*run.lengths, target]))
    raise ExperimentError(
        f"length {target}: nothing was measured at or beyond it ({longest}); run the experiment file with "
        f"--lengths {asked} and a new --out."
    )


def _within(run: Measured, block: Block, costs: Mapping[str, Cost], bound_percent: float | None) -> Block:
    if bound_percent is None:
        return block
    if not math.isfinite(bound_percent) or bound_percent < 0:
        raise ExperimentError(f"max-short-cost {bound_percent}: must be a number of per cent >= 0, for example 2.")
    if not costs:
        reason = why_no_cost(run, block.lengths[0])
        raise ExperimentError(f"max-short-cost {bound_percent:g}: costs at short lengths are unknown: {reason}.")
    kept = [x for x in block.labels if x in costs and costs[x].at_most <= 1 + bound_percent / 100]
    if not kept:
        raise ExperimentError(
            f"max-short-cost {bound_percent:g}: no configuration with a value at {block.lengths[0]} is shown to cost "
            "so little; raise it, measure more documents, or leave it out."
        )
    return block.only(kept)


def _candidate(run: Measured, block: Block, label: str, costs: Mapping[str, Cost]) -> Candidate:
    length = block.lengths[0]
    row = next(r for r in run.rows if r.label == label)
    whole = run.blocks.get((block.metric, length))
    passkey = run.block("passkey", length)
    return Candidate(
        label=label,
        method=row.method,
        params=row.params,
        value=value_of(block, label),
        against_none=block.paired(label, NONE) if label != NONE and NONE in block.labels else None,
        against_truncate=whole.paired(label, TRUNCATE) if whole is not None and TRUNCATE in whole.labels else None,
        cost=costs.get(label),
        passkey=passkey.interval(label) if passkey is not None and label in passkey.labels else None,
    )


def value_of(block: Block, label: str) -> Interval:
    """A configuration's value as the results table shows it (perplexity, bits per byte, share), with its interval."""
    interval = block.interval(label)
    return interval if block.metric in ("passkey", "bits_per_byte") else interval.exp()


def _loss(block: Block, label: str) -> float:
    return float(block.losses_C[block.labels.index(label)])


def _ranked(block: Block) -> list[str]:
    return [block.labels[i] for i in block.losses_C.argsort(kind="stable")]
