"""Runs as notebooks and papers show them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from typing_extensions import override

from ropewalk.errors import RopewalkError
from ropewalk.experiment import results, tabular
from ropewalk.report.recommend import recommend
from ropewalk.report.study import known
from ropewalk.report.wording import headline
from ropewalk.stats.measured import measured

TOP = 10


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Run(results.Run):
    """A run directory, read only, that shows itself: one line in a terminal, headline and top ten in a notebook."""

    @override
    def __repr__(self) -> str:
        rows = self.rows()
        lengths = sorted({row["length"] for row in rows})
        span = f"{lengths[0]:,} to {lengths[-1]:,} tokens" if lengths else "nothing measured"
        state = "" if not self.missing.cells else f", {self.missing.cells} missing"
        return f"Run({str(self.directory)!r}: {len(rows)} cells, {span}{state})"

    def _repr_html_(self) -> str:
        first, last = html.escape(self.headline()), html.escape(repr(self))
        return f"<p><strong>{first}</strong></p>{_table(self._best())}<p>{last}</p>"

    def headline(self) -> str:
        """What the run recommends at its longest length, in a sentence; or why it recommends nothing."""
        if self.missing.cells:
            return str(self.missing)
        try:
            run = measured(self.frame(), self.samples(), self.meta, known())
            return headline(recommend(run, run.lengths[-1]))
        except RopewalkError as error:
            return str(error)

    def _best(self) -> tabular.Grid:
        """The ten best at the longest length, by the first metric that has values there."""
        rows = self.shown_rows()
        longest = max((row["length"] for row in rows), default=0)
        rows = [row for row in rows if row["length"] == longest]
        first = next((row["metric"] for row in rows if row["value"] is not None), None)
        grid = tabular.wide(tabular.ordered(rows, first) if first else rows)
        return tabular.Grid(columns=grid.columns, rows=grid.rows[:TOP])

    def latex(self, metrics: Iterable[str] = (), lengths: Iterable[int] = (), *, ci: bool = True) -> str:
        """A LaTeX tabular of these metrics and lengths (all where none is named); needs the package booktabs."""
        return tabular.latex(tabular.wide(tabular.chosen(self.shown_rows(), metrics=metrics, lengths=lengths), ci=ci))


def _table(grid: tabular.Grid) -> str:
    def row(tag: str, texts: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in texts)}</tr>"

    return f"<table>{row('th', grid.columns)}{''.join(row('td', texts) for texts in grid.rows)}</table>"
