"""What the charts share: channels per method, axes of ratios and lengths, rules, tooltips; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from ropewalk.report.palette import Style
from ropewalk.report.points import Point

Spec = dict[str, Any]
HEIGHT = 340
ROW = 20
"""Height of a row of a chart with names down its side, pixels."""
POINTS = alt.NamedData("points")
CHANGE = (
    "datum.value == 0 ? 'same' : datum.value < 2.3 ? format(100 * (exp(datum.value) - 1), '+.3~g') + ' %' : "
    "'× ' + format(exp(datum.value), '.3~g')"
)
"""The logarithm of a ratio on an axis, as a change."""
LINEAR_UNTIL = 0.1
"""Axes of changes are linear for changes well below 10 % and logarithmic well above."""
THOUSANDS = "format(datum.value, ',')"
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
RATIOS = (
    *STEPS,
    1.0,
    *(1 + x for x in STEPS if x < 0.7),
    2.0,
    3.0,
    5.0,
    *(m * 10.0**e for e in range(1, 9) for m in (1, 3)),
)
"""Round ratios that an axis may show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ink:
    """Channels that depend on the method; colours come from the theme, in the order of `styles`."""

    styles: Mapping[str, Style]
    present: tuple[str, ...]

    @property
    def color(self) -> alt.Color:
        return alt.Color("method:N", scale=alt.Scale(domain=list(self.styles)), legend=self._legend)

    @property
    def shape(self) -> alt.Shape:
        shapes = [style.shape for style in self.styles.values()]
        scale = alt.Scale(domain=list(self.styles), range=shapes)
        return alt.Shape("method:N", scale=scale, legend=self._legend)

    @property
    def dash(self) -> alt.StrokeDash:
        dashes = [list(style.dash) for style in self.styles.values()]
        return alt.StrokeDash("method:N", scale=alt.Scale(domain=list(self.styles), range=dashes), legend=None)

    @property
    def offset(self) -> alt.XOffset:
        return alt.XOffset("method:N", scale=alt.Scale(domain=list(self.present)))

    @property
    def _legend(self) -> alt.Legend:
        return alt.Legend(values=list(self.present), title=None)


def ink(points: Sequence[Point], styles: Mapping[str, Style]) -> Ink:
    """Channels for these points."""
    found = {point["method"] for point in points}
    return Ink(styles=styles, present=tuple(name for name in styles if name in found))


def shown() -> alt.Chart:
    """Points of the methods that are switched on."""
    return alt.Chart(POINTS).transform_filter("indexof(shown, datum.method) >= 0")


def changes(*fields: str) -> alt.Chart:
    """`shown` with `log_FIELD` for each field that is a ratio; null stays null."""
    logs = {f"log_{name}": f"isValid(datum.{name}) ? log(datum.{name}) : null" for name in fields}
    return shown().transform_calculate(**logs)


def layered(*layers: alt.Chart, points: Sequence[Point], ink: Ink, height: int = HEIGHT) -> Spec:
    """One view of these points, with the switch for methods."""
    switch = alt.param(name="shown", value=list(ink.present))
    chart = alt.layer(*layers).add_params(switch).properties(height=height)
    return chart.to_dict() | {"datasets": {POINTS.name: list(points)}}


def inline(spec: Spec) -> Spec:
    """A view with its points inside, as a part of a larger chart needs them (only the whole may name data)."""
    inner = {key: value for key, value in spec.items() if key not in ("$schema", "config", "datasets")}
    return inner | {"data": {"values": spec["datasets"][POINTS.name]}}


def without_legends(spec: Any) -> Any:
    """The same spec for a page that has legends of its own."""
    if isinstance(spec, list):
        return [without_legends(item) for item in spec]
    if not isinstance(spec, dict):
        return spec
    return {k: None if k == "legend" else v if k == "datasets" else without_legends(v) for k, v in spec.items()}


def change_axis(values: Iterable[float], near: Iterable[float | None] = ()) -> tuple[alt.Scale, alt.Axis]:
    """An axis of changes that holds "same", all these ratios, and those near them (ends of intervals)."""
    ratios = [1.0, *values]
    least, most = min(ratios), max(ratios)
    ratios += [end for end in near if end and least / 3 <= end <= most * 3]
    low, high = math.log(min(ratios)), math.log(max(ratios))
    air = 0.05 * max(_bend(high) - _bend(low), 0.02)
    low, high = _unbend(_bend(low) - air), _unbend(_bend(high) + air)
    ticks = spread([math.log(r) for r in RATIOS if low <= math.log(r) <= high], _bend, (low, high))
    scale = alt.Scale(type="symlog", constant=LINEAR_UNTIL, domain=[low, high], nice=False)
    return scale, alt.Axis(labelExpr=CHANGE, values=ticks, labelOverlap="greedy")


def log_axis(values: Sequence[float], ticks: Sequence[float] | None = None) -> tuple[alt.Scale, alt.Axis]:
    """A logarithmic axis over these values with a little air."""
    low, high = min(values), max(values)
    air = max((high / low) ** 0.05, 1.002)
    low, high = low / air, high * air
    shown = spread([t for t in ticks or _round(low, high) if low <= t <= high], math.log, (low, high))
    axis = alt.Axis(values=shown, format=",~g") if shown else alt.Axis(tickCount=6)
    return alt.Scale(type="log", domain=[low, high], nice=False), axis


def _round(low: float, high: float) -> list[float]:
    """Round numbers between two positive ones: the roundest of which there are four or more."""
    decades = range(math.floor(math.log10(low)) - 2, math.floor(math.log10(high)) + 1)
    found: list[float] = []
    for mantissas in ((1,), (1, 3), (1, 2, 5), range(1, 10), range(10, 100), range(100, 1000)):
        found = sorted({float(f"{m}e{e}") for m in mantissas for e in decades if low <= float(f"{m}e{e}") <= high})
        if len(found) >= 4:
            break
    return found


def spread(
    ticks: Iterable[float], place: Callable[[float], float], ends: tuple[float, float], most: int = 9
) -> list[float]:
    """Those of the ticks that stand apart where an axis puts them, the ones nearest to zero first."""
    gap = (place(ends[1]) - place(ends[0])) / most
    kept: list[float] = []
    for tick in sorted(ticks, key=abs):
        if all(abs(place(tick) - place(other)) >= gap for other in kept):
            kept.append(tick)
    return sorted(kept)


def _bend(x: float) -> float:
    """Where a symlog axis puts x."""
    return math.copysign(math.log1p(abs(x) / LINEAR_UNTIL), x)


def _unbend(y: float) -> float:
    return math.copysign(math.expm1(abs(y)) * LINEAR_UNTIL, y)


def lengths(points: Sequence[Point]) -> alt.X:
    """Measured lengths, logarithmic."""
    values = sorted({int(p["length"]) for p in points})
    air = 1.08
    return alt.X(
        "length:Q",
        title="length, tokens",
        scale=alt.Scale(type="log", base=2, domain=[values[0] / air, values[-1] * air], nice=False),
        axis=alt.Axis(values=values, labelExpr=THOUSANDS, labelOverlap=True, grid=False),
    )


def token_axis(values: Sequence[float]) -> tuple[alt.Scale, alt.Axis]:
    """Tokens on a logarithmic axis, with powers of two (or of four) as ticks."""
    low, high = min(values), max(values)
    step = 1 if high / low < 2**8 else 2 if high / low < 2**14 else 3
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    ticks = [2.0**e for e in range(first, last + 1, step)]
    axis = alt.Axis(values=ticks, labelExpr=THOUSANDS, labelOverlap=True, grid=False)
    return alt.Scale(type="log", base=2, domain=[low, high], nice=False), axis


def baseline(field: str, value: float, *, across: bool = False) -> alt.Chart:
    """A rule at the value that means no difference."""
    rule = alt.Chart(alt.Data(values=[{field: value}])).mark_rule(strokeDash=[4, 3])
    return rule.encode(alt.X(f"{field}:Q")) if across else rule.encode(alt.Y(f"{field}:Q"))


def level(field: str, value: float, text: str) -> list[alt.Chart]:
    """A rule across the chart with a word at its right end."""
    words = alt.Chart(alt.Data(values=[{field: value, "text": text}])).mark_text(
        align="right", baseline="bottom", dx=-4, dy=-3
    )
    return [baseline(field, value), words.encode(alt.Y(f"{field}:Q"), alt.Text("text:N"), x=alt.value("width"))]


def window_rule(window: int, points: Sequence[Point], field: str) -> list[alt.Chart]:
    """A labelled rule at the trained window, where the axis reaches it."""
    values = [float(p[field]) for p in points]
    if not values or not min(values) <= window <= max(values):
        return []
    base = alt.Chart(alt.Data(values=[{field: window, "text": f"window {window:,}"}]))
    late = window > math.sqrt(min(values) * max(values)) * 1.5
    words = base.mark_text(align="right" if late else "left", baseline="top", dx=-5 if late else 5)
    x = alt.X(f"{field}:Q")
    return [
        base.mark_rule(strokeDash=[4, 3]).encode(x),
        words.encode(x, alt.Text("text:N"), y=alt.value(0)),
    ]


def tips(points: Sequence[Point], names: Sequence[str], formats: Mapping[str, str] | None = None) -> list[alt.Tooltip]:
    """What hovering shows: those of the names that the points have."""
    found: list[alt.Tooltip] = []
    for name in names:
        values = [p[name] for p in points if p.get(name) is not None]
        if values and isinstance(values[0], int | float):
            style = (formats or {}).get(name, ",.4~g" if isinstance(values[0], float) else ",")
            found.append(alt.Tooltip(field=name, type="quantitative", format=style))
        elif values:
            found.append(alt.Tooltip(field=name, type="nominal"))
    return found
