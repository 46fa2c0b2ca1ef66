"""Vega-Lite's config for pictures that stand alone, and for the page; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.report.palette import BACKGROUND, Style

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', sans-serif"


def picture_config(styles: Mapping[str, Style]) -> dict[str, Any]:
    """A light picture with its own legend and background; method colours by their order in `styles`."""
    legend = {
        "columnPadding": 24,  # a viewer without the font that columns were measured in takes a wider one
        "labelColor": "#30363d",
        "labelFontSize": 12,
        "labelLimit": 300,
        "orient": "bottom",
        "columns": 4,
        "symbolOpacity": 1,
    }
    colors = [style.light for style in styles.values()]
    config = _config(text="#30363d", faint="#57606a", grid="#e4e7eb", colors=colors)
    return config | {"background": BACKGROUND["light"], "padding": 16, "legend": legend}


def page_config(styles: Mapping[str, Style]) -> dict[str, Any]:
    """Colours as variables of the page's style sheet, so that themes and paper need no new drawing; legends are the
    page's own."""
    colors = [f"var(--method-{index})" for index in range(len(styles))]
    config = _config(text="var(--text)", faint="var(--faint)", grid="var(--grid)", colors=colors)
    padding = {"left": 4, "top": 4, "right": 16, "bottom": 4}  # the last label of an axis reaches over its end
    return config | {"background": "transparent", "padding": padding, "aria": False}


def _config(*, text: str, faint: str, grid: str, colors: list[str]) -> dict[str, Any]:
    axis = {"labelColor": faint, "titleColor": text, "gridColor": grid, "domain": False, "tickColor": grid}
    sizes = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 10}
    return {
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis | sizes,
        "title": {
            "color": text,
            "fontSize": 13,
            "anchor": "start",
            "fontWeight": "normal",
            "subtitleColor": faint,
            "subtitleFontSize": 12,
        },
        "text": {"color": faint, "fontSize": 12},
        "rule": {"color": faint},
        "line": {"color": faint},
        "range": {"category": colors},
    }
