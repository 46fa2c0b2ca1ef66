"""Each chart of the report with its title and a description in words, or the reason why there is none; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ropewalk.report import charts, points
from ropewalk.report.costs import why_no_cost
from ropewalk.report.marks import Spec
from ropewalk.report.palette import Style
from ropewalk.report.points import bins_of
from ropewalk.report.study import Study
from ropewalk.stats.blocks import Block
from ropewalk.stats.measured import NONE, TRUNCATE
from ropewalk.stats.sensitivity import Step

MOST_STEPS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart, or why it is missing.

    Attributes:
        name: file name without suffix, and anchor.
        title: says what is drawn; also the chart's text alternative.
        spec: Vega-Lite, without a width; None if there is nothing to draw.
        missing: the reason, then.
        methods: which methods it draws, for its legend.
        small: one of several side by side.
    """

    name: str
    title: str
    spec: Spec | None = None
    missing: str = ""
    methods: tuple[str, ...] = ()
    small: bool = False


def ratio(study: Study, leading: Mapping[str, str], styles: Mapping[str, Style]) -> Figure:
    """Perplexity ratio to none by length."""
    run, title = study.run, "Perplexity ratio to none by length"
    found = points.ratios(run, "perplexity", NONE, leading)
    if not found:
        reason = _absent(study, "perplexity") or "no configuration beside none has a perplexity to compare"
        return Figure(name="ratio", title=title, missing=reason)
    y, single = "perplexity against none", len({p["length"] for p in found}) == 1
    spec = (
        charts.dots(found, styles, y=y, value="perplexity")
        if single
        else charts.lines(found, styles, y=y, window=run.shipped_window)
    )
    return Figure(name="ratio", title=title, spec=spec, methods=_methods(found))


def tail(study: Study, leading: Mapping[str, str], styles: Mapping[str, Style]) -> Figure:
    """Tail perplexity against truncate."""
    title = "Tail perplexity against dropping the context"
    column = study.run.tail
    found = points.ratios(study.run, column.name, TRUNCATE, leading) if column else []
    if column and found:
        spec = charts.dots(found, styles, y="tail perplexity against truncate", value=column.title)
        return Figure(name="tail", title=title, spec=spec, methods=_methods(found))
    window = study.run.shipped_window
    inside = f"no length lies beyond the window of {window:,} tokens, so there is no context to drop"
    beyond = any(length > window for length in study.run.lengths)
    reason = (_absent(study, column.name) if column else "tail perplexity was not measured") or (
        inside if not beyond else "no tail could be compared with truncate"
    )
    return Figure(name="tail", title=title, missing=reason)


def positions(study: Study, leading: Mapping[str, str], styles: Mapping[str, Style]) -> Figure:
    """Loss by position."""
    found = points.curve(study, leading)
    if not found:
        reason = _absent(study, "perplexity") or "no pass over the longest length is complete"
        return Figure(name="position", title="Loss by position", missing=reason)
    spec = charts.positions(found, styles, window=study.run.shipped_window)
    length = max(p.length for p in study.curve)
    return Figure(name="position", title=f"Loss by position, up to {length:,}", spec=spec, methods=_methods(found))


def retrieval(study: Study, labels: Sequence[str]) -> tuple[Figure, ...]:
    """A depth by length map of each label."""
    bins, found = bins_of(study), list[Figure]()
    for index, label in enumerate(labels):
        cells = points.found_map(study, label, bins)
        if cells:
            name = f"retrieval-{index:02d}"
            found.append(Figure(name=name, title=label, spec=charts.depths(cells), small=True))
    column, title = study.run.retrieval, "What is found, by depth and length"
    reason = (_absent(study, column.name) if column else "nothing asks what is found") or "no trial is complete"
    return tuple(found) or (Figure(name="retrieval-00", title=title, missing=reason),)


def front(study: Study, block: Block | None, leading: Mapping[str, str], styles: Mapping[str, Style]) -> Figure:
    """Cost at short lengths against quality at the judged length."""
    title = "Cost at short lengths against quality at the longest"
    if block is None:
        return Figure(name="pareto", title=title, missing="nothing was measured")
    found = points.pareto(study.run, block, leading)
    length = block.lengths[0]
    if not found:
        return Figure(name="pareto", title=title, missing=why_no_cost(study.run, length))
    dropped = study.run.row(TRUNCATE, block.metric, length)
    value = None if dropped is None or math.isnan(dropped.value) else dropped.value
    metric = block.column.title
    spec = charts.front(found, styles, value=metric, log=block.column.is_ratio, dropping=value, length=length)
    return Figure(name="pareto", title=title, spec=spec, methods=_methods(found))


def stretch(study: Study, leading: Mapping[str, str], styles: Mapping[str, Style], block: Block | None) -> Figure:
    """What each method's best rotation does to the wavelengths."""
    title = "Wavelengths against the window"
    found = points.wavelengths(study, leading, block.lengths[0]) if block else []
    if not found:
        return Figure(name="wavelengths", title=title, missing="no rotation with a measured configuration is stored")
    spec = charts.stretch(found, styles, window=study.run.window)
    return Figure(name="wavelengths", title=title, spec=spec, methods=_methods(found))


def distances(
    study: Study, leading: Mapping[str, str], styles: Mapping[str, Style], block: Block | None
) -> tuple[Figure, ...]:
    """What near and far attention tells of distance: a line for each method's best configuration, and its map; nothing
    where none has branches."""
    length, window = block.lengths[0] if block else 0, study.run.window
    found = points.told(study, leading, length) if block else []
    if not found:
        return ()
    line = charts.told(found, styles, window=window)
    title = f"Distance told to the last of {length:,} tokens"
    labels = dict.fromkeys(point["configuration"] for point in found)
    maps = (
        Figure(
            name=f"maps-{index:02d}",
            title=label,
            spec=charts.distances(points.map_of(study, label, length), window=window),
            small=True,
        )
        for index, label in enumerate(labels)
    )
    return Figure(name="distances", title=title, spec=line, methods=_methods(found)), *maps


def gains(study: Study, labels: Sequence[str], block: Block | None) -> tuple[Figure, ...]:
    """A layer by head map of each configuration that multiplies queries; nothing where none does."""
    found = {label: points.gains(study, label, block.lengths[0]) for label in labels} if block else {}
    return tuple(
        Figure(name=f"gains-{index:02d}", title=label, spec=charts.gains(cells), small=True)
        for index, (label, cells) in enumerate(found.items())
        if cells
    )


def effects(block: Block | None, steps: Mapping[str, Sequence[Step]], styles: Mapping[str, Style]) -> Figure:
    """What each step of a parameter changes."""
    title = "Effect of each parameter"
    found = points.effects(block, steps) if block else []
    if block is None or not found:
        reason = "no method has two configurations that differ in one parameter alone"
        return Figure(name="sensitivity", title=title, missing=reason)
    kept = list(dict.fromkeys(p["step"] for p in found))[:MOST_STEPS]
    found = [p for p in found if p["step"] in kept]
    ratio = block.column.is_ratio
    spec = charts.effects(found, styles, x=f"change of {block.column.title}", ratio=ratio)
    return Figure(name="sensitivity", title=title, spec=spec, methods=_methods(found))


def _absent(study: Study, metric: str) -> str:
    """Why a metric has no chart at all; empty if it was measured."""
    rows = [row for row in study.run.rows if row.metric == metric]
    if not rows:
        return f"{metric} was not measured"
    if all(row.status != "ok" for row in rows):
        title, first = study.run.columns[metric].title, rows[0]
        return f"no {title} cell has a value; the first: {first.status.replace('_', ' ')}, {first.reason}"
    return ""


def _methods(found: Sequence[points.Point]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(point["method"] for point in found))


__all__ = ["Figure", "bins_of"]
