"""Vega-Lite specs from points; pure. Colours and fonts come from `theme`, the width from whoever renders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from ropewalk.report import marks
from ropewalk.report.marks import Spec
from ropewalk.report.palette import Style
from ropewalk.report.points import Point

RATIO = ("ratio", "low", "high")
STRETCHES = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024)
NARROW = "width < 420 ? replace(datum.label, /^\\S+ /, '') : datum.label"
"""On a narrow screen the name of a step goes without its method, which mark and colour tell."""
NEAR_TO_FAR = ["#2f6db3", "#a08aa0", "#f2a541"]
"""Seen on light pages and on dark ones, and by the colour-blind."""
PLAIN_TOKENS = alt.Axis(labelExpr=marks.THOUSANDS, tickCount=6, grid=False)
LABELLED_LENGTHS = alt.Axis(labelAngle=0, labelExpr=marks.THOUSANDS)


def lines(points: Sequence[Point], styles: Mapping[str, Style], *, y: str, window: int) -> Spec:
    """Ratios by length: the best configuration of each method with its band, the others faint behind."""
    tip = marks.tips(points, ("configuration", "length", "change", "perplexity", "documents"))
    ink, base, x = marks.ink(points, styles), marks.changes(*RATIO), marks.lengths(points)
    ratio = _ratio(points, y)
    leading, others = base.transform_filter("datum.leads"), base.transform_filter("!datum.leads")
    thin = others.mark_line(strokeWidth=1, opacity=0.25, clip=True)
    return marks.layered(
        marks.baseline("log_ratio", 0),
        *marks.window_rule(window, points, "length"),
        thin.encode(x, ratio, alt.Detail("configuration:N"), ink.color),
        others.mark_point(filled=True, size=18, opacity=0.35, clip=True).encode(x, ratio, ink.color, tooltip=tip),
        leading.mark_area(opacity=0.14, clip=True).encode(x, alt.Y("log_low:Q"), alt.Y2("log_high:Q"), ink.color),
        leading.mark_line(strokeWidth=2).encode(x, ratio, ink.color, ink.dash),
        leading.mark_point(filled=True, size=70, opacity=1).encode(x, ratio, ink.color, ink.shape, tooltip=tip),
        points=points,
        ink=ink,
    )


def dots(points: Sequence[Point], styles: Mapping[str, Style], *, y: str, value: str) -> Spec:
    """Ratios side by side at each length: the best configuration of each method with its interval, others faint."""
    tip = marks.tips(points, ("configuration", "length", "change", value, "documents"))
    ink, base = marks.ink(points, styles), marks.changes(*RATIO)
    x = alt.X("length:O", title="length, tokens", axis=LABELLED_LENGTHS, scale=alt.Scale(paddingInner=0.15))
    ratio = _ratio(points, y)
    leading, others = base.transform_filter("datum.leads"), base.transform_filter("!datum.leads")
    faint = others.mark_point(filled=True, size=22, opacity=0.35, clip=True)
    bars = leading.mark_rule(strokeWidth=2, clip=True)
    strong = leading.mark_point(filled=True, size=80, opacity=1)
    return marks.layered(
        marks.baseline("log_ratio", 0),
        faint.encode(x, ratio, ink.offset, ink.color, tooltip=tip),
        bars.encode(x, alt.Y("log_low:Q"), alt.Y2("log_high:Q"), ink.offset, ink.color),
        strong.encode(x, ratio, ink.offset, ink.color, ink.shape, tooltip=tip),
        points=points,
        ink=ink,
    )


def positions(points: Sequence[Point], styles: Mapping[str, Style], *, window: int) -> Spec:
    """Loss by position in one pass over the longest length."""
    tip = marks.tips(points, ("configuration", "positions", "nll", "documents"))
    ink, base = marks.ink(points, styles), marks.shown()
    scale, axis = marks.token_axis([p["position"] for p in points])
    x = alt.X("position:Q", title="position, tokens", scale=scale, axis=axis)
    y = alt.Y("nll:Q", title="loss, nats per token", scale=alt.Scale(zero=False))
    leading, others = base.transform_filter("datum.leads"), base.transform_filter("!datum.leads")
    thin = others.mark_line(strokeWidth=1, opacity=0.2)
    return marks.layered(
        *marks.window_rule(window, points, "position"),
        thin.encode(x, y, alt.Detail("configuration:N"), ink.color),
        leading.mark_line(strokeWidth=2).encode(x, y, ink.color, ink.dash),
        leading.mark_point(filled=True, size=24, opacity=1).encode(x, y, ink.color, ink.shape, tooltip=tip),
        points=points,
        ink=ink,
    )


def depths(points: Sequence[Point]) -> Spec:
    """Depth by length map of one configuration."""
    tip = marks.tips(points, ("configuration", "length", "depths", "found"))
    base = alt.Chart(marks.POINTS)
    x = alt.X("length:O", title=None, axis=LABELLED_LENGTHS)
    parts = list(dict.fromkeys(p["depths"] for p in sorted(points, key=lambda p: p["depth"])))
    y = alt.Y("depths:N", sort=parts, title=None, axis=alt.Axis(labelOverlap=True))
    share = alt.Color("share:Q", scale=alt.Scale(scheme="cividis", domain=[0, 1]), legend=None)
    ink = alt.condition("datum.share > 0.55", alt.value("#101418"), alt.value("#ffffff"))
    cells = base.mark_rect(stroke="white", strokeWidth=0.5).encode(x, y, share, tooltip=tip)
    counts = base.mark_text(fontSize=9.5).encode(x, y, alt.Text("short:N"), color=ink, tooltip=tip)
    chart = alt.layer(cells, counts).properties(height=marks.ROW * len(parts))
    return chart.to_dict() | {"datasets": {marks.POINTS.name: list(points)}}


def gains(points: Sequence[Point]) -> Spec:
    """Map of one configuration's gains by layer and head; white where the query is left alone."""
    tip = marks.tips(points, ("configuration", "layer", "head", "factor", "least", "most"))
    most = max(abs(p["mean"]) for p in points) or 1.0
    x, y = (
        alt.X("head:O", title="head", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        alt.Y("layer:O", title="layer"),
    )
    scale = alt.Scale(scheme="purpleorange", domain=[-most, most])
    cells = alt.Chart(marks.POINTS).mark_rect(stroke="white", strokeWidth=0.5)
    chart = cells.encode(x, y, alt.Color("mean:Q", scale=scale, legend=None), tooltip=tip)
    rows = len({p["layer"] for p in points})
    return chart.properties(height=min(marks.ROW, 12) * rows).to_dict() | {
        "datasets": {marks.POINTS.name: list(points)}
    }


def told(points: Sequence[Point], styles: Mapping[str, Style], *, window: int) -> Spec:
    """How far away the last token is told that others are, by how far they are; dashed: told the truth."""
    tip = marks.tips(points, ("configuration", "meant", "told", "branch"))
    ink, base = marks.ink(points, styles), marks.shown()
    far, most = max(p["meant"] for p in points), max(window, *(p["told"] for p in points))
    x = alt.X("meant:Q", title="distance, tokens", scale=alt.Scale(domain=[0, far], nice=False), axis=PLAIN_TOKENS)
    y = alt.Y("told:Q", title="distance told, tokens", scale=alt.Scale(domain=[0, 1.05 * most], nice=False))
    truth = alt.Chart(alt.Data(values=[{"meant": at, "told": at} for at in (0, min(far, most))]))
    return marks.layered(
        *marks.level("told", window, f"window {window:,}"),
        truth.mark_line(strokeDash=[4, 3], strokeWidth=1, color="#888888").encode(alt.X("meant:Q"), alt.Y("told:Q")),
        base.mark_line(strokeWidth=2, opacity=0.8).encode(x, y, alt.Detail("branch:N"), ink.color, ink.dash),
        base.mark_point(filled=True, size=16, opacity=1).encode(x, y, ink.color, ink.shape, tooltip=tip),
        points=points,
        ink=ink,
    )


def distances(points: Sequence[Point], *, window: int) -> Spec:
    """Map of the distances that a configuration tells, query by key; orange is the window and beyond."""
    tip = marks.tips(points, ("configuration", "query", "key", "meant", "told", "branch"))
    places = sorted({p["query"] for p in points})
    axis = alt.Axis(labelAngle=0, values=places[:: len(places) // 4 or 1], labelExpr=marks.THOUSANDS)
    x, y = alt.X("key:O", title="key", axis=axis), alt.Y("query:O", title="query", axis=axis)
    scale = alt.Scale(range=NEAR_TO_FAR, domain=[0, window], clamp=True)
    cells = alt.Chart(marks.POINTS).mark_rect()
    chart = cells.encode(x, y, alt.Color("told:Q", scale=scale, legend=None), tooltip=tip)
    return chart.properties(height=180).to_dict() | {"datasets": {marks.POINTS.name: list(points)}}


def front(
    points: Sequence[Point], styles: Mapping[str, Style], *, value: str, length: int, log: bool, dropping: float | None
) -> Spec:
    """Cost at short lengths against quality at the judged length; the front joined by a line."""
    tip = marks.tips(points, ("configuration", "cost at short lengths", value, "length"))
    ink, base = marks.ink(points, styles), marks.changes("cost")
    scale, axis = marks.change_axis(p["cost"] for p in points)
    x = alt.X("log_cost:Q", title="cost at short lengths (worst change of perplexity)", scale=scale, axis=axis)
    values = [p["value"] for p in points] + ([] if dropping is None else [dropping])
    scale, axis = marks.log_axis(values) if log and min(values) > 0 else (alt.Scale(zero=False), alt.Axis(tickCount=6))
    y = alt.Y("value:Q", title=f"{value} at {length:,}", scale=scale, axis=axis)
    best, others = base.transform_filter("datum.front"), base.transform_filter("!datum.front")
    joined = best.mark_line(strokeWidth=1.5, opacity=0.6, interpolate="step-after")
    small = others.mark_point(filled=True, size=45, opacity=0.45)
    large = best.mark_point(filled=True, size=110, opacity=1)
    return marks.layered(
        *([] if dropping is None else marks.level("value", dropping, "dropping the context")),
        joined.encode(x, y, alt.Order("log_cost:Q")),
        small.encode(x, y, ink.color, ink.shape, tooltip=tip),
        large.encode(x, y, ink.color, ink.shape, tooltip=tip),
        points=points,
        ink=ink,
    )


def stretch(points: Sequence[Point], styles: Mapping[str, Style], *, window: int) -> Spec:
    """How much slower every pair of dimensions turns, by its unscaled wavelength."""
    names = ("configuration", "pair", "unscaled", "wavelength", "stretch", "turns", "attention factor")
    tip = marks.tips(points, names, {"unscaled": ",.1f", "wavelength": ",.1f", "turns": ".3~g"})
    ink, base = marks.ink(points, styles), marks.shown()
    scale, axis = marks.token_axis([p["unscaled"] for p in points])
    x = alt.X("unscaled:Q", title="unscaled wavelength of the pair, tokens", scale=scale, axis=axis)
    scale, axis = marks.log_axis([1.0, *(p["stretch"] for p in points)], STRETCHES)
    y = alt.Y("stretch:Q", title="stretched by", scale=scale, axis=axis)
    return marks.layered(
        *marks.window_rule(window, points, "unscaled"),
        base.mark_line(strokeWidth=2, opacity=0.8).encode(x, y, ink.color, ink.dash),
        base.mark_point(filled=True, size=30, opacity=1).encode(x, y, ink.color, ink.shape, tooltip=tip),
        points=points,
        ink=ink,
    )


def effects(points: Sequence[Point], styles: Mapping[str, Style], *, x: str, ratio: bool) -> Spec:
    """What each step of a parameter changes, everything else fixed."""
    tip = marks.tips(points, ("from", "to", "change", "p (Holm)", "documents"))
    ink, base = marks.ink(points, styles), marks.changes(*RATIO) if ratio else marks.shown()
    names = list(dict.fromkeys(p["step"] for p in points))
    y = alt.Y("step:N", sort=names, title=None, axis=alt.Axis(labelLimit=230, grid=True, labelExpr=NARROW))
    value, low, high = ("log_ratio:Q", "log_low:Q", "log_high:Q") if ratio else ("ratio:Q", "low:Q", "high:Q")
    ends = [p[end] for p in points for end in ("low", "high")]
    plain = alt.Scale(zero=False), alt.Axis(tickCount=5)
    scale, axis = marks.change_axis([p["ratio"] for p in points], ends) if ratio else plain
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.6, clip=True)
    spots = base.mark_point(filled=True, size=60, opacity=1)
    return marks.layered(
        marks.baseline("log_ratio" if ratio else "ratio", 0, across=True),
        bars.encode(alt.X(low), alt.X2(high), y, ink.color),
        spots.encode(alt.X(value, title=x, scale=scale, axis=axis), y, ink.color, ink.shape, tooltip=tip),
        points=points,
        ink=ink,
        height=marks.ROW * len(names),
    )


def _ratio(points: Sequence[Point], title: str) -> alt.Y:
    """An axis that holds all leading values and most of their intervals; others may leave the frame."""
    leading = [p for p in points if p["leads"]]
    ends = [p[end] for p in leading for end in ("low", "high")]
    scale, axis = marks.change_axis([p["ratio"] for p in leading], ends)
    return alt.Y("log_ratio:Q", title=title, scale=scale, axis=axis)
