"""Rows of results as tables: chosen, sorted, side by side, as Markdown and as LaTeX; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropewalk.errors import ExperimentError, nearest
from ropewalk.metrics import column

Rows = Sequence[Mapping[str, Any]]
BESIDE = ("configuration", "length")
"""Columns of a wide table before its metrics."""
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Text in columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def chosen(
    rows: Rows, *, metrics: Iterable[str] = (), lengths: Iterable[int] = (), methods: Iterable[str] = ()
) -> Rows:
    """The rows of these metrics, lengths and methods; of all where none is named.

    Raises:
        ExperimentError: one that the rows do not have; names the nearest, or all.
    """
    for key, wanted in (("metric", metrics), ("length", lengths), ("method", methods)):
        kept = list(wanted)
        known = list(dict.fromkeys(row[key] for row in rows))
        for value in kept:
            if value not in known:
                near = nearest(value, map(str, known))
                hint = f"did you mean {near}?" if near else f"write one of {', '.join(map(str, known))}."
                raise ExperimentError(f"--{key} {value}: is in no row of this run; {hint}")
        rows = [row for row in rows if not kept or row[key] in kept]
    return rows


def ordered(rows: Rows, metric: str) -> Rows:
    """The rows by length, and within a length the configuration whose value of a metric is best first.

    Raises:
        ExperimentError: the rows do not have it.
    """
    chosen(rows, metrics=[metric])
    sign = -1 if column(metric).higher_is_better else 1
    values = {(row["label"], row["length"]): row["value"] for row in rows if row["metric"] == metric}

    def place(row: Mapping[str, Any]) -> tuple[int, float]:
        value = values.get((row["label"], row["length"]))
        return row["length"], math.inf if value is None else sign * value

    return sorted(rows, key=place)


def wide(rows: Rows, *, ci: bool = True) -> Grid:
    """One line per configuration and length, metrics side by side, in the order in which the rows name them."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    cells = {(row["label"], row["length"], row["metric"]): row for row in rows}
    lines = dict.fromkeys((row["label"], row["length"]) for row in rows)
    return Grid(
        columns=(*BESIDE, *metrics),
        rows=tuple(
            (label, str(length), *(cell_text(cells.get((label, length, metric)), ci=ci) for metric in metrics))
            for label, length in lines
        ),
    )


def cell_text(row: Mapping[str, Any] | None, *, ci: bool = True) -> str:
    """A value with its interval, or why there is none."""
    if row is None:
        return "-"
    if row["value"] is None:
        return str(row["status"])
    if row["ci_low"] is None or not ci:
        return f"{row['value']:.4g}"
    return f"{row['value']:.4g} [{row['ci_low']:.4g}, {row['ci_high']:.4g}]"


def blocks(grid: Grid, width: int, gap: int = 2) -> list[Grid]:
    """The same table as some that are at most so wide, each with configuration and length; at least one metric each."""
    widths = [max(len(row[i]) for row in (grid.columns, *grid.rows)) for i in range(len(grid.columns))]
    groups: list[list[int]] = []
    for index in range(len(BESIDE), len(widths)):
        kept = [0, 1, *(groups[-1] if groups else []), index]
        if not groups or sum(widths[i] for i in kept) + gap * (len(kept) - 1) > width:
            groups.append([])
        groups[-1].append(index)
    return [_only(grid, [0, 1, *group]) for group in groups] or [grid]


def _only(grid: Grid, places: Sequence[int]) -> Grid:
    rows = tuple(tuple(row[i] for i in places) for row in grid.rows)
    return Grid(columns=tuple(grid.columns[i] for i in places), rows=rows)


def markdown(grid: Grid) -> str:
    """A Markdown table."""
    lines = [grid.columns, ("---",) * len(grid.columns), *grid.rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines) + "\n"


def latex(grid: Grid) -> str:
    """A LaTeX tabular with rules of booktabs; names may hold anything."""
    head, *body = (" & ".join(map(_latex, line)) + r" \\" for line in (grid.columns, *grid.rows))
    kinds = "l" + "r" * (len(grid.columns) - 1)
    lines = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _latex(text: str) -> str:
    return "".join(LATEX.get(c, c) for c in text)
