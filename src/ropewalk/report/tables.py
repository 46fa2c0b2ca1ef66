"""The tables of a report that show what was measured, as text; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ropewalk.report.study import Study
from ropewalk.report.wording import MISSING, measure
from ropewalk.stats.column import Column
from ropewalk.stats.intervals import Interval
from ropewalk.stats.measured import TRUNCATE, Measured, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Text in columns; `numeric` names the columns that hold numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()


def heading(column: Column) -> str:
    """`Tail perplexity by length`."""
    return f"{column.title[:1].upper()}{column.title[1:]} by length"


def by_length(run: Measured, column: Column) -> Table:
    """One column: configurations down, lengths across."""
    lengths = tuple(sorted({row.length for row in run.rows if row.metric == column.name}))
    cells: dict[str, dict[int, Row]] = {}
    for row in run.rows:
        if row.metric == column.name:
            cells.setdefault(row.label, {})[row.length] = row
    names = tuple(f"{length:,}" for length in lengths)
    rows = tuple((label, *(cell(column, found.get(length)) for length in lengths)) for label, found in cells.items())
    return Table(columns=("configuration", *names), rows=rows, numeric=frozenset(names))


def cell(column: Column, row: Row | None) -> str:
    """A value with its interval, or its status where there is none."""
    if row is None:
        return MISSING
    if math.isnan(row.value):
        return row.status.replace("_", " ") if row.status != "ok" else MISSING
    bounded = not (math.isnan(row.ci_low) or math.isnan(row.ci_high))
    low, high = (min(row.ci_low, row.value), max(row.ci_high, row.value)) if bounded else (None, None)
    return measure(column, Interval(value=row.value, low=low, high=high, n=row.n))


def depths(study: Study, labels: Sequence[str], bins: int) -> Table:
    """What was found by depth and length, `found/trials`."""
    counts: dict[tuple[str, int, int], list[bool]] = {}
    for trial in study.trials:
        if trial.label in labels:
            key = (trial.label, trial.length, depth_bin(trial.depth, bins))
            counts.setdefault(key, []).append(trial.found)
    names = depth_names(bins)
    measured = sorted({(labels.index(label), length) for label, length, _ in counts})
    rows = tuple(
        (labels[place], f"{length:,}", *(_share(counts.get((labels[place], length, i))) for i in range(bins)))
        for place, length in measured
    )
    return Table(columns=("configuration", "length", *names), rows=rows, numeric=frozenset(("length", *names)))


def depth_bin(depth: float, bins: int) -> int:
    """Which part of the text a depth in [0, 1] falls into."""
    return min(bins - 1, max(0, int(depth * bins)))


def depth_names(bins: int) -> tuple[str, ...]:
    """`0-20 %`, `20-40 %`, ..."""
    return tuple(f"{100 * i / bins:.0f}–{100 * (i + 1) / bins:.0f} %" for i in range(bins))


def failures(run: Measured) -> Table:
    """Every cell without a value, and why."""
    rows = tuple(
        (row.label, f"{row.length:,}", run.columns[row.metric].title, row.status.replace("_", " "), row.reason)
        for row in run.rows
        if row.status != "ok"
    )
    columns = ("configuration", "length", "metric", "status", "reason")
    return Table(columns=columns, rows=rows, numeric=frozenset({"length"}))


def duplicates(run: Measured) -> Table:
    """Groups of configurations that are one measurement, by length."""
    groups: dict[tuple[int, str], dict[str, None]] = {}
    for row in run.rows:
        if row.method != TRUNCATE and row.fingerprint:
            groups.setdefault((row.length, row.fingerprint), {})[row.label] = None
    rows = tuple(
        (f"{length:,}", fingerprint, str(len(labels)), ", ".join(labels))
        for (length, fingerprint), labels in sorted(groups.items(), key=lambda item: item[0][0])
        if len(labels) > 1
    )
    columns = ("length", "rotation", "configurations", "which are one measurement")
    return Table(columns=columns, rows=rows, numeric=frozenset({"length", "configurations"}))


def _share(found: Iterable[bool] | None) -> str:
    outcomes = list(found or ())
    return f"{sum(outcomes)}/{len(outcomes)}" if outcomes else MISSING
