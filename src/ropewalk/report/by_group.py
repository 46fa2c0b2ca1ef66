"""Sections about columns whose units fall into groups, such as tasks: each group by length and method; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from ropewalk.report import marks
from ropewalk.report.figures import Figure
from ropewalk.report.listing import Listing, Section
from ropewalk.report.marks import Spec
from ropewalk.report.palette import Style
from ropewalk.report.points import Point
from ropewalk.report.tables import Table
from ropewalk.report.wording import MISSING, number
from ropewalk.stats.column import Column
from ropewalk.stats.findings.finding import share
from ropewalk.stats.groups import ABSOLUTE, KEPT, Reach, absolute, disagreements, readings, relative, values
from ropewalk.stats.measured import NONE, TRUNCATE, Measured

ANCHOR = "groups"
MOST = 8
"""Sections of this kind whose pictures are removed where a report lacks them."""
HEIGHT = 130


def sections(run: Measured, leading: Mapping[str, str], styles: Mapping[str, Style]) -> list[Section]:
    """One section per column; none for a run without groups."""
    return [_section(run, column, place, leading, styles) for place, column in enumerate(run.grouped)]


def _section(
    run: Measured, column: Column, place: int, leading: Mapping[str, str], styles: Mapping[str, Style]
) -> Section:
    labels = list(dict.fromkeys([NONE, *leading.values()]))
    pair = readings(run)
    tables = [
        Listing(title="How far each configuration keeps up", table=reach_table(run, column), folded=False),
        *(Listing(title=f"Profile of {label}", table=profile(run, column, label)) for label in labels),
    ]
    if pair is not None and column == pair[1]:
        tables.append(Listing(title=f"Where it disagrees with {pair[0].title}", table=disagreement_table(run)))
    score = f", or, absolutely, has a mean of at least {100 * ABSOLUTE:.1f} %" if column.higher_is_better else ""
    better = "more" if column.higher_is_better else "less"
    limit = (
        f"at least {share(KEPT)} of what none has at its shortest length"
        if column.higher_is_better
        else f"a loss that leaves each token at least {share(KEPT)} of its probability under none at its shortest "
        "length"
    )
    return Section(
        anchor=f"{ANCHOR}-{place}",
        title=f"{column.title[:1].upper()}{column.title[1:]}, task by task",
        lead=f"Exploratory: the mean of each task at each length, {better} is better, of each method's best "
        "configuration. "
        f"A configuration keeps a task at a length if it has {limit}{score}; its effective length is the longest up to "
        "which it does, and what it loses first is lost at the shortest length.",
        figures=figures(run, column, place, labels, styles),
        tables=tuple(tables),
    )


def figures(
    run: Measured, column: Column, place: int, labels: Sequence[str], styles: Mapping[str, Style]
) -> tuple[Figure, ...]:
    """A small chart per group."""
    methods = {row.label: row.method for row in run.rows}
    points: dict[str, list[Point]] = {}
    for (label, name), own in values(run, column).items():
        if name and label in labels:
            points.setdefault(name, []).extend(
                {"method": methods[label], "configuration": label, "length": length, "value": value}
                for length, value in own.items()
            )
    return tuple(
        Figure(
            name=f"{ANCHOR}-{place}-{index:02d}",
            title=name,
            spec=_chart(own, styles, column),
            methods=tuple(dict.fromkeys(str(point["method"]) for point in own)),
            small=True,
        )
        for index, (name, own) in enumerate(points.items())
    )


def _chart(points: Sequence[Point], styles: Mapping[str, Style], column: Column) -> Spec:
    """The mean of a group by length, a line per method."""
    ink, base = marks.ink(points, styles), alt.Chart(marks.POINTS)
    x = alt.X("length:O", title=None)
    y = alt.Y(
        "value:Q", title=None, scale=alt.Scale(domain=[0, 1]) if column.higher_is_better else alt.Scale(zero=True)
    )
    tip = marks.tips(points, ("configuration", "length", "value"))
    return marks.layered(
        base.mark_line(strokeWidth=1.5).encode(x, y, ink.color, ink.dash),
        base.mark_point(filled=True, size=30, opacity=1).encode(x, y, ink.color, ink.shape, tooltip=tip),
        points=points,
        ink=ink,
        height=HEIGHT,
    )


def profile(run: Measured, column: Column, label: str) -> Table:
    """One configuration: groups down, lengths across."""
    own = {name: means for (each, name), means in values(run, column).items() if each == label}
    lengths = sorted({length for means in own.values() for length in means})
    names = tuple(f"{length:,}" for length in lengths)
    rows = tuple((name or "all", *(number(means.get(length)) for length in lengths)) for name, means in own.items())
    return Table(columns=("task", *names), rows=rows, numeric=frozenset(names))


def reach_table(run: Measured, column: Column) -> Table:
    """Effective lengths of every configuration, and what it loses first."""
    found, fixed = relative(run, column), absolute(run, column)
    labels = [label for own in run.configurations.values() for label in own if (label, "") in found]
    rows = tuple(
        (label, _reach(found[label, ""]), *([_reach(fixed[label])] if fixed else []), _first_lost(found, label))
        for label in labels
    )
    score = ("effective length, absolute",) if fixed else ()
    columns = ("configuration", "effective length, relative", *score, "loses first")
    return Table(columns=columns, rows=rows, numeric=frozenset(columns[1:-1]))


def _reach(reach: Reach) -> str:
    if reach.length is None:
        return "none"
    return f"{reach.length:,}" if reach.lost_at is not None else f"at least {reach.length:,}"


def _first_lost(found: Mapping[tuple[str, str], Reach], label: str) -> str:
    lost = {name: reach.lost_at for (each, name), reach in found.items() if each == label and name and reach.lost_at}
    if not lost:
        return MISSING
    first = min(lost.values())
    return f"at {first:,}: {', '.join(name for name, length in lost.items() if length == first)}"


def disagreement_table(run: Measured) -> Table:
    """Where one reading says better than `none` and the other worse."""
    rows = tuple(
        (f"{each.length:,}", each.group, each.label, f"{each.loss:+.3g}", f"{each.score:+.3g}")
        for each in disagreements(run)
        if each.label != TRUNCATE
    )
    columns = ("length", "task", "configuration", "loss against none", "score against none")
    return Table(
        columns=columns, rows=rows or (("nowhere", *[MISSING] * 4),), numeric=frozenset({"length", *columns[3:]})
    )
