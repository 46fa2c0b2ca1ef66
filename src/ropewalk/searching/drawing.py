"""Pictures of a search: lambda per pair beside the named methods', and the front of cost against quality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import vl_convert

from ropewalk.report import charts
from ropewalk.report.marks import POINTS, Spec, inline
from ropewalk.report.palette import Style, styles
from ropewalk.report.theme import picture_config
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.searching.verdict import WINNER

WIDTH = 760
CANDIDATE = "candidate"
OURS = {
    WINNER: Style(light="#d1007a", dark="#ff5db1", shape="diamond", dash=(1, 0)),
    CANDIDATE: Style(light="#8a8f98", dark="#8a8f98", shape="circle", dash=(1, 0)),
}
"""How the winner and the other candidates are drawn: unlike every method."""


def drawing(
    found: Mapping[str, Any], geometry: RopeGeometry, rows: Mapping[str, Rotation]
) -> tuple[Spec, dict[str, Style]]:
    """Both charts in one, with what hovering shows, and the styles that they need.

    Args:
        found: the result.
        geometry: of the model.
        rows: the winner's rotation and that of each named method at its best, by label.
    """
    methods = [WINNER, *(label.split(" ")[0] for label in rows if label != WINNER)]
    looks = styles(methods[1:]) | OURS
    curve = charts.stretch(_pairs(geometry, rows, found["window"]), looks, window=found["window"])
    front = charts.front(
        _front(found), looks, value="perplexity beyond the window", length=found["length"], log=True, dropping=None
    )
    titled = [(curve, "Stretch of every pair of dimensions"), (front, "Every candidate on the search set")]
    parts = [_part(spec) | {"title": title, "width": WIDTH} for spec, title in titled]
    switch = {"name": "shown", "value": list(looks)}
    shared = {"$schema": curve["$schema"], "params": [switch], "vconcat": parts}
    shared["resolve"] = {"legend": {"color": "independent", "shape": "independent"}}
    return shared, looks


def _part(spec: Spec) -> Spec:
    """A chart as a part of a larger one: the switch for methods is the whole's, and every layer has its own data."""
    points = {"values": spec["datasets"][POINTS.name]}
    part = {key: value for key, value in inline(spec).items() if key != "params"}
    layers = [
        layer | {"data": points} if layer.get("data") == {"name": POINTS.name} else layer for layer in part["layer"]
    ]
    return part | {"layer": layers}


def _pairs(geometry: RopeGeometry, rows: Mapping[str, Rotation], window: int) -> list[dict[str, Any]]:
    points = []
    for label, rotation in rows.items():
        for index, (plain, turned) in enumerate(
            zip(geometry.unscaled_inv_freq.tolist(), rotation.inv_freq.tolist(), strict=True)
        ):
            if turned > 0:
                points.append(
                    {"configuration": label, "method": label.split(" ")[0], "pair": index}
                    | {"unscaled": 2 * math.pi / plain, "stretch": plain / turned, "wavelength": 2 * math.pi / turned}
                    | {"turns": window * plain / (2 * math.pi), "attention factor": rotation.attention_factor}
                )
    return points


def _front(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    best = found["winner"]
    points = []
    for each in found["front"]:
        won = (each["label"], each["cost"], each["objective"]) == (best["named"], best["short_cost"], best["objective"])
        label = WINNER if won else each["label"] or CANDIDATE
        points.append(
            {"configuration": label, "method": label.split(" ")[0], "front": each["front"], "length": found["length"]}
            | {"cost": 1 + each["cost"], "cost at short lengths": f"{100 * each['cost']:+.2f} %"}
            | {"value": each["beyond"], "perplexity beyond the window": f"{each['beyond']:.4g}"}
        )
    return points


def files(spec: Spec, looks: Mapping[str, Style]) -> dict[str, bytes]:
    """The picture as one page that needs nothing else, and as PNG."""
    config = picture_config(looks)
    page = vl_convert.vegalite_to_html(spec, bundle=True, config=config)
    return {
        "search.html": page.encode(),
        "search.png": vl_convert.vegalite_to_png(spec, scale=2, config=config),
    }
