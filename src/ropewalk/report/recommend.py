"""Which configuration to use at a length, what supports the choice, and what would change it; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from ropewalk.errors import ExperimentError, one_of
from ropewalk.metrics import columns
from ropewalk.report.costs import Cost, short_costs, why_no_cost
from ropewalk.stats.best import BestSet, best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.column import Column, by_weight
from ropewalk.stats.findings.quality import Direction, against_dropping, deciding_block, direction
from ropewalk.stats.intervals import Interval
from ropewalk.stats.measured import NONE, TRUNCATE, Measured
from ropewalk.stats.paired import Paired

LOSSES, BOTH = "perplexity", "both"
"""What decides: the weightiest loss that was measured (LOSSES), how prompts are answered (by a column's name), or that
loss and then, among those that it cannot tell apart, how prompts are answered (BOTH)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One configuration with what speaks for and against it at the judged length.

    Attributes:
        value: in the unit of the results table (perplexity, bits per byte, a share), with its interval.
        against_none, against_truncate: paired on the same documents; None where that was not measured.
        cost: at lengths inside the window; None where unknown.
        found: how prompts of the judged length are answered, by the answer's `second`; None where not measured.
    """

    label: str
    method: str
    asked: Mapping[str, Any]
    value: Interval
    against_none: Paired | None
    against_truncate: Paired | None
    cost: Cost | None
    found: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Recommendation:
    """The answer for one target length.

    Attributes:
        target: what was asked for, tokens.
        judged_at: the shortest measured length at or beyond it.
        column: what decided.
        second: what says how prompts are answered, and decides among what the metric ties; None if nothing does.
        choice: the best value within the bounds, among those tied that no other is shown to answer better than.
        tied: all others that cannot be told apart from it, best first.
        outdone: those tied in the metric that were shown to answer worse than another of them, best first, each
            with its p (exact McNemar of shares, else paired t; Holm over the pairs of the tied).
        best: the procedure's result over the configurations within the bounds, before retrieval.
        too_costly: better values at the judged length, but beyond the bound, best first.
        too_few_found: better values at the judged length, but less found than `min_found`, best first.
        bound_percent: largest allowed cost at short lengths, per cent; None if any.
        min_found: smallest allowed share found at the judged length; None if any.
        by: what was asked to decide.
        no_cost: why costs are unknown; empty where they are known.
        rotates: the choice has different rotations at different lengths.
        same: those of `tied` that are one measurement with the choice.
        dropping: whether the choice is shown to be better or worse than `truncate`, corrected over all extended
            configurations as the finding is; None where that was not measured or the choice extends nothing.
    """

    target: int
    judged_at: int
    column: Column
    second: Column | None
    choice: Candidate
    tied: tuple[Candidate, ...]
    outdone: tuple[tuple[Candidate, float], ...]
    best: BestSet
    too_costly: tuple[Candidate, ...]
    too_few_found: tuple[Candidate, ...]
    bound_percent: float | None
    min_found: float | None
    by: str
    no_cost: str
    rotates: bool
    same: tuple[str, ...]
    dropping: Direction | None

    @override
    def __repr__(self) -> str:
        value = f"{self.column.title} {self.choice.value.value:.4g}"
        return f"Recommendation({self.choice.label!r} for {self.target:,} tokens: {value}, {len(self.tied)} tied)"


def recommend(
    run: Measured,
    target: int,
    bound_percent: float | None = None,
    *,
    by: str = BOTH,
    min_found: float | None = None,
) -> Recommendation:
    """The best value at the target among the configurations within the bounds; with `by="both"`, of those that the
    value cannot tell apart, the best of those that no other is shown to answer better than. With `min_found`, what is
    found decides that as well.

    Raises:
        ExperimentError: nothing that decides was measured at or beyond the target, or what a bound needs was not.
    """
    block = judged_block(run, target, by)
    length = block.lengths[0]
    costs = short_costs(run, length)
    cheap = _within(run, block, costs, bound_percent)
    second = _second(run, block) if min_found is None else _shares(run)
    allowed = _finding(run, cheap, min_found)
    best = best_set(allowed)
    assert best.winner is not None
    found = _of(run, second, length)
    gone = _outdone(allowed.only(best.members), found) if by == BOTH else {}
    label, *tied = [name for name in best.members if name not in gone]

    def candidates(labels: Sequence[str]) -> tuple[Candidate, ...]:
        return tuple(_candidate(run, block, found, name, costs) for name in labels)

    losses = dict(zip(block.labels, block.losses_C.tolist(), strict=True))
    ahead = [name for name in _ranked(block) if losses[name] < losses[label]]
    same = _same_rotation(run, label, length)
    return Recommendation(
        target=target,
        judged_at=length,
        column=block.column,
        second=second,
        choice=_candidate(run, block, found, label, costs),
        tied=candidates(tied),
        outdone=tuple(
            (_candidate(run, block, found, name, costs), gone[name]) for name in best.members if name in gone
        ),
        best=best,
        too_costly=candidates([name for name in ahead if name not in cheap.labels]),
        too_few_found=candidates([name for name in ahead if name in cheap.labels and name not in allowed.labels]),
        bound_percent=bound_percent,
        min_found=min_found,
        by=by,
        no_cost="" if label in costs else why_no_cost(run, length),
        rotates=len({row.fingerprint for row in run.rows if row.label == label}) > 1,
        same=tuple(name for name in tied if name in same),
        dropping=_dropping(run, block, label),
    )


def _second(run: Measured, block: Block) -> Column | None:
    """How prompts of the length are answered, beside what decides: tasks before shares of one kind of prompt."""
    answered = (c for c in by_weight(run.columns.values()) if c.answered and c != block.column)
    return next((c for c in answered if _of(run, c, block.lengths[0]) is not None), run.retrieval)


def _shares(run: Measured) -> Column | None:
    """What counts what is found."""
    return run.retrieval or next((c for c in run.columns.values() if c.answered and c.higher_is_better), None)


def _outdone(tied: Block, found: Block | None) -> dict[str, float]:
    """Those of the tied that are shown to answer worse than another of them, each with its p."""
    return {} if found is None or tied.counts else dict(best_set(found.only(tied.labels)).excluded)


def _of(run: Measured, column: Column | None, length: int) -> Block | None:
    return None if column is None else run.block(column.name, length)


def _same_rotation(run: Measured, label: str, length: int) -> set[str]:
    """The configurations that are one measurement with this one at a length."""
    at = [(row.label, row.fingerprint) for row in run.rows if row.length == length and row.label != TRUNCATE]
    own = {fingerprint for name, fingerprint in at if name == label}
    return {name for name, fingerprint in at if fingerprint in own}


def _dropping(run: Measured, block: Block, label: str) -> Direction | None:
    rows = against_dropping(run).get(block.lengths[0], ()) if block.column == run.tail else ()
    return next((direction(row) for row in rows if row.label == label), None)


def judged_block(run: Measured, target: int, by: str = BOTH) -> Block:
    """Outcomes that decide about a target: of the shortest measured length at or beyond it that has any.

    By what is found, equal shares stand in the order of the metric that would decide otherwise. A metric's name stands
    for the first of its columns that was measured.

    Raises:
        ExperimentError: there is none; says what to run.
    """
    answered = {c.name: columns()[c.name][0].name for c in run.columns.values() if c.answered}
    by = next((column for column, metric in answered.items() if by == metric), by)
    known = list(dict.fromkeys([LOSSES, *answered.values(), *answered, BOTH]))
    if by not in known:
        raise ExperimentError(f"--by {by}: {one_of(by, known)}")
    beyond = [length for length in run.lengths if length >= target]
    for length in beyond:
        block = _deciding(run, length, by)
        if block is not None and block.labels:
            return block
    if beyond and by != BOTH and any(_deciding(run, length, BOTH) for length in beyond):
        lacks, metric = ("perplexities", by) if by == LOSSES else (run.columns[by].items, columns()[by][0].name)
        raise ExperimentError(
            f"--by {by}: there are no {lacks} at {target} tokens or beyond; run with metrics: {{{metric}: {{}}}} as "
            "well."
        )
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


def _deciding(run: Measured, length: int, by: str) -> Block | None:
    if by not in (LOSSES, BOTH):
        found, order = run.block(by, length), _deciding(run, length, LOSSES)
        if found is None or order is None:
            return found
        ranked = _ranked(order)
        return found.only([*ranked, *(label for label in found.labels if label not in ranked)])
    block = deciding_block(run, length)
    single = (run.block(column.name, length) for column in run.weightiest)
    found = block or next((b for b in single if b is not None and b.labels), None)
    return None if found is not None and by == LOSSES and found.column.answered else found


def _finding(run: Measured, block: Block, least: float | None) -> Block:
    """The block without what finds less than a share."""
    if least is None:
        return block
    if not 0 <= least <= 1:
        raise ExperimentError(f"min-found {least}: must be a share from 0 to 1, for example 0.9.")
    length = block.lengths[0]
    found = _of(run, _shares(run), length)
    if found is None or not found.labels:
        raise ExperimentError(
            f"min-found {least:g}: nothing that counts what is found was measured at {length}; leave it out."
        )
    shares = dict(zip(found.labels, found.values_C, strict=True))
    kept = [label for label in block.labels if shares.get(label, -1.0) >= least]
    if not kept:
        most = max(shares.values())
        raise ExperimentError(
            f"min-found {least:g}: no configuration finds so many at {length} (the most is {most:g}); lower it or "
            "leave it out."
        )
    return block.only(kept)


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


def _candidate(run: Measured, block: Block, found: Block | None, label: str, costs: Mapping[str, Cost]) -> Candidate:
    row = next(r for r in run.rows if r.label == label)
    whole = run.blocks.get((block.metric, block.lengths[0]))
    return Candidate(
        label=label,
        method=row.method,
        asked=row.asked,
        value=value_of(block, label),
        against_none=block.paired(label, NONE) if label != NONE and NONE in block.labels else None,
        against_truncate=whole.paired(label, TRUNCATE) if whole is not None and TRUNCATE in whole.labels else None,
        cost=costs.get(label),
        found=found.interval(label) if found is not None and label in found.labels else None,
    )


def value_of(block: Block, label: str) -> Interval:
    """A configuration's value as the results table shows it (perplexity, bits per byte, a share), with its interval."""
    interval = block.interval(label)
    return interval.exp() if block.column.is_ratio else interval


def _ranked(block: Block) -> list[str]:
    return [block.labels[i] for i in block.losses_C.argsort(kind="stable")]
