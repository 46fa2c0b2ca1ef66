"""Who is best, by method, by length and overall, as tables; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

from ropewalk.report.costs import Cost, short_costs
from ropewalk.report.recommend import value_of
from ropewalk.report.tables import Table, cell
from ropewalk.report.wording import MISSING, change, measure
from ropewalk.stats.best import BestSet, best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.correlation import rank_agreement
from ropewalk.stats.crossfit import cross_fit
from ropewalk.stats.effective import THRESHOLD, TOLERANCE, against_reference, effective_length
from ropewalk.stats.findings.finding import share, spelled
from ropewalk.stats.measured import Measured


def by_method(run: Measured, block: Block) -> Table:
    """Each method's best configuration, chosen on one half of the units and judged on the other, both ways.

    The verdict is about all configurations: a method is worse only if every one of its own left the best set.
    """
    costs = short_costs(run, block.lengths[0])
    fitted = cross_fit(block, run.configurations)
    if fitted is None:
        return _not_held_out(run, block, costs)
    best = best_set(block)
    rows = tuple(
        (
            entry.method,
            entry.best,
            measure(block.column, value_of(fitted.block, entry.method)),
            _optimism(block, entry.optimism),
            _verdict(run.configurations[entry.method], best),
            _cost(costs.get(entry.best)),
            reach(run, entry.best),
        )
        for entry in fitted.methods
    )
    columns = ("method", "best configuration", f"held-out {block.column.title}", "optimism", "verdict")
    return Table(columns=(*columns, "cost at short lengths", "effective length"), rows=rows)


def _not_held_out(run: Measured, block: Block, costs: Mapping[str, Cost]) -> Table:
    """Without two units to make halves of: in-sample values, said to be that."""
    rows: list[tuple[str, ...]] = []
    for method, labels in run.configurations.items():
        own = block.only(labels)
        if own.labels:
            best = own.labels[int(own.losses_C.argmin())]
            value = measure(block.column, value_of(block, best))
            rows.append((method, best, value, _cost(costs.get(best)), reach(run, best)))
    columns = ("method", "best configuration", f"{block.column.title}, not held out")
    return Table(columns=(*columns, "cost at short lengths", "effective length"), rows=tuple(rows))


def reach(run: Measured, label: str) -> str:
    """Effective length of a configuration: `16,384 (tail)`, `at least 16,384`, or a dash where it is unknown."""
    tail, retrieval = run.tail, run.retrieval
    if tail is None:
        return MISSING
    asked = {row.length for row in run.rows if row.label == label and row.metric == tail.name}
    tails = {length: block for (metric, length), block in run.blocks.items() if metric == tail.name}
    ratios = against_reference(tails, label, run.shipped_window)
    if not ratios:
        return MISSING
    own = [row for row in run.rows if row.label == label and retrieval and row.metric == retrieval.name]
    found = {row.length: row.value for row in own}
    effective = effective_length(dict.fromkeys(asked) | ratios, found or None)
    stop = retrieval.title if effective.stopped_by == "found" and retrieval else effective.stopped_by
    if effective.length is None:
        return f"{_FROM_THE_START[effective.stopped_by or 'missing']} already at {effective.stopped_at:,}"
    if effective.stopped_at is None:
        return f"at least {effective.length:,}"
    return f"{effective.length:,} ({stop})"


_FROM_THE_START = {
    "tail": f"tail costs more than {share(TOLERANCE)}",
    "not shown": f"tail not shown to cost less than {share(TOLERANCE)}",
    "found": f"finds less than {share(THRESHOLD)}",
    "missing": "not measured",
}
"""Why there is no effective length: a verdict on the longest length stands beside it, and may well be good."""


def effective_note(run: Measured) -> str:
    """What effective length means in this run."""
    found = run.retrieval
    more = f" and at least {share(THRESHOLD)} of {found.items} are found" if found else ""
    return (
        "Effective length: the longest measured length up to which tail perplexity is shown, by its whole paired 95 % "
        f"interval, to stay within {share(TOLERANCE)} of the unscaled model's on the same tokens{more}, and "
        "what ended it; beyond the window the unscaled model is fed the last half window."
    )


def best_per_length(run: Measured) -> Table:
    """The winner of every length and metric, and how many cannot be told apart from it."""
    rows: list[tuple[str, ...]] = []
    for length in run.lengths:
        for column in run.columns.values():
            block = run.block(column.name, length)
            best = best_set(block) if block is not None and block.labels else None
            if block is None or best is None or best.winner is None:
                continue
            alone = (
                "only one measurement" if best.distinct < 2 else f"{len(best.members) - 1} of {len(block.labels) - 1}"
            )
            value = measure(column, value_of(block, best.winner))
            rows.append((f"{length:,}", column.title, best.winner, value, alone, str(best.n)))
    columns = ("length", "metric", "best", "value [95 % interval]", "not told apart", "n")
    return Table(columns=columns, rows=tuple(rows), numeric=frozenset({"length", "n"}))


def top(run: Measured, block: Block, count: int = 10) -> Table:
    """The best configurations at one length, with their other metrics beside the deciding one."""
    length = block.lengths[0]
    at = {row.metric for row in run.rows if row.length == length}
    columns = [column for column in run.columns.values() if column.name in at]
    order = [block.labels[i] for i in block.losses_C.argsort(kind="stable")][:count]
    rows = tuple(
        (str(place), label, *(cell(column, run.row(label, column.name, length)) for column in columns))
        for place, label in enumerate(order, 1)
    )
    return Table(
        columns=("rank", "configuration", *(column.title for column in columns)), rows=rows, numeric=frozenset({"rank"})
    )


def correlations(run: Measured) -> Table:
    """Spearman's rank correlation of each pair of metrics over the configurations, one column per length."""
    blocks = {(m, x): b for x in run.lengths for m in run.columns if (b := run.block(m, x)) is not None and b.labels}
    apart = [
        c for c in run.columns.values() if c.pooling != "bits"
    ]  # which order the configurations as perplexity does
    rows: list[tuple[str, ...]] = []
    for one, other in combinations(apart, 2):
        found = [_agreement(blocks.get((one.name, x)), blocks.get((other.name, x))) for x in run.lengths]
        if any(text != MISSING for text in found):
            rows.append((f"{one.title}, {other.title}", *found))
    return Table(columns=("metrics", *(f"{x:,}" for x in run.lengths)), rows=tuple(rows))


def _agreement(one: Block | None, other: Block | None) -> str:
    found = rank_agreement(one, other) if one is not None and other is not None else None
    if found is None:
        return MISSING
    return spelled(found, "+.2f")


def _verdict(own: Sequence[str], best: BestSet) -> str:
    """What the best set of all configurations says of one method's."""
    if best.distinct < 2:
        return MISSING
    if not any(label in best.members for label in own):
        return "worse"
    if best.winner in own:
        return "best" if all(label in own for label in best.members) else "best, tied"
    return "tied with the best"


def _cost(cost: Cost | None) -> str:
    return MISSING if cost is None else change(cost.ratio)


def _optimism(block: Block, optimism: float) -> str:
    """How much too good the in-sample best looked."""
    if not block.column.is_ratio:
        return f"{100 * optimism:.1f} points" if block.counts else f"{optimism:.3g}"
    return f"{100 * math.expm1(min(optimism, 50.0)):+.2f} %"
