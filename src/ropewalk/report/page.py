"""The report as one HTML file that needs nothing else; pure but for the template and vl-convert's bundle."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ropewalk import __version__
from ropewalk.report import wording
from ropewalk.report.content import Content
from ropewalk.report.marks import without_legends
from ropewalk.report.palette import BAR, HOURGLASS, HOUSE, STAR, Style
from ropewalk.report.theme import page_config
from ropewalk.stats.findings import Finding
from ropewalk.stats.measured import NONE, Measured, Row

MOST_ROWS = 300
"""Rows of a table in a section; the full table holds all numbers."""
MOST_FINDINGS = 3
"""Said at once; a page that opens with ten warnings is read by nobody."""
GLYPHS = {
    "circle": "●",
    "square": "■",
    "triangle-up": "▲",
    "diamond": "◆",
    "cross": "✚",
    "triangle-down": "▼",
    "triangle-right": "▶\ufe0e",
    "triangle-left": "◀\ufe0e",
    HOURGLASS: "⋈",
    HOUSE: "⌂",
    STAR: "★",
    BAR: "▮",
}
COLUMNS = (
    ("configuration", "text"),
    ("length", "count"),
    ("metric", "text"),
    ("value", "value"),
    ("low", "value"),
    ("high", "value"),
    ("against none", "number"),
    ("n", "count"),
    ("status", "text"),
    ("rotation", "text"),
)


DARK = (
    "--page:#14171c;--panel:#1c2128;--ink:#eef1f4;--text:#c9d1d9;--faint:#9aa4af;--line:#2f363f;--grid:#2b313a;"
    "--link:#8ab4ff;--bad:#ff8a80;--warn:#e8b84a;--note:#9fc1ea;--rope-dark:#6d5430;color-scheme:dark;"
)


def page(report: Content) -> str:
    """The whole page. Every text is escaped by the template; JSON by `tojson`, which leaves no `<` in it."""
    answer = report.answer
    first, rest = worst(report.findings)
    figures = [figure for section in report.sections for figure in section.figures if figure.spec is not None]
    return (
        environment("ropewalk.report")
        .get_template("template.html.j2")
        .render(
            report=report,
            version=__version__,
            subtitle=_subtitle(report.study.run),
            headline=wording.headline(answer) if answer else "",
            facts=wording.facts(answer) if answer else {},
            confidence=wording.confidence(answer) if answer else "",
            deploying=wording.deploying(answer) if answer else "",
            first=first,
            rest=rest,
            lead=report.sections[0],
            changes=wording.would_change(answer) if answer else [],
            order={name: index for index, name in enumerate(report.styles)},
            glyphs=GLYPHS,
            most_rows=MOST_ROWS,
            colors=Markup(colors(report.styles)),
            data={
                "config": page_config(report.styles),
                "methods": list(report.styles),
                "charts": {figure.name: compact(without_legends(figure.spec)) for figure in figures},
                "table": table(report.study.run),
            },
            bundle=Markup(bundle()),
        )
    )


def worst(findings: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    """What is said at once, warnings before cautions, and what is folded away: the rest, and every note."""
    first = [finding for finding in findings if finding.severity != "note"][:MOST_FINDINGS]
    return first, [finding for finding in findings if finding not in first]


def table(run: Measured) -> dict[str, Any]:
    """The full table: columns with their kinds, rows of plain values, and where a row holds what filters ask for; the
    method has no column of its own, as configurations begin with it."""
    names = [*(name for name, _ in COLUMNS), "method"]
    places = {name: names.index(name) for name in ("method", "length", "metric")}
    columns = [{"name": name, "kind": kind} for name, kind in COLUMNS]
    ratios = _against_none(run)
    rows = [compact(_row(row, ratios.get((row.metric, row.length, row.label)))) for row in run.rows]
    shares = [column.name for column in run.columns.values() if column.counts]
    return {"columns": columns, "rows": rows, "shares": shares} | places


def _row(row: Row, ratio: float | None) -> list[Any]:
    status = f"{row.status}: {row.reason}" if row.reason else row.status
    values = (row.value, row.ci_low, row.ci_high, ratio)
    return [row.label, row.length, row.metric, *values, row.n, status, row.fingerprint, row.method]


def _against_none(run: Measured) -> dict[tuple[str, int, str], float]:
    """Ratios of perplexities to `none` on the same documents."""
    found: dict[tuple[str, int, str], float] = {}
    for (metric, length), block in run.blocks.items():
        if block.column.is_ratio and NONE in block.labels:
            logs_C = block.values_C - block.values_C[block.labels.index(NONE)]
            found |= {(metric, length, x): math.exp(min(v, 700.0)) for x, v in zip(block.labels, logs_C, strict=True)}
    return found


def colors(styles: Mapping[str, Style]) -> str:
    """Method colours as CSS variables, for light pages and paper, and for dark screens."""
    light = "".join(f"--method-{i}:{style.light};" for i, style in enumerate(styles.values()))
    dark = "".join(f"--method-{i}:{style.dark};" for i, style in enumerate(styles.values())) + DARK
    return (
        f":root{{{light}}}\n@media screen{{:root[data-theme=dark]{{{dark}}}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
    )


def compact(value: Any) -> Any:
    """JSON values with floats at six significant digits; null for what JSON cannot hold."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): compact(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [compact(item) for item in value]
    return value


def interval(text: str) -> Markup:
    """A text whose interval in brackets is set apart, so that neither part is broken over lines; escaped."""
    text = whole(text)
    value, bracket, rest = text.partition(" [")
    if not bracket or "]" not in rest:
        return escape(text)
    ends, _, after = rest.partition("]")
    return Markup('<span class="whole">{}</span> <span class="ends">[{}]</span>{}').format(value, ends, after)


def whole(text: str) -> str:
    """The text with numbers and their per cent signs on one line."""
    return re.sub(r"(?<=\d) %", "\u00a0%", text)


@cache
def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed, made to stand inside a script element."""
    # The stub wants a snippet; without one the bundle defines vegaEmbed.
    source: str = vl_convert.javascript_bundle()  # pyrefly: ignore[missing-argument]
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def environment(package: str) -> Environment:
    """Templates of a package: what is put into them is escaped, and what is missing is an error."""
    made = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"interval": interval, "whole": whole}
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return made


def _subtitle(run: Measured) -> str:
    model = run.meta.get("model", {})
    day = str(run.meta.get("started") or "")[:10]
    return " · ".join(str(part) for part in (model.get("dtype"), model.get("device"), day) if part)
