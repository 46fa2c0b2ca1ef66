"""Pictures of a search: lambda per pair beside the named methods', and the front of cost against quality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ropewalk.report import charts
from ropewalk.report.marks import POINTS, Spec, inline
from ropewalk.report.palette import Style, styles
from ropewalk.report.theme import picture_config
from ropewalk.report.write import png, svg
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.searching.verdict import WINNER

WIDTH = 760
CANDIDATE = "candidate"
SEED = "seed "
OURS = {
    WINNER: Style(light="#d1007a", dark="#ff5db1", shape="diamond", dash=(1, 0)),
    CANDIDATE: Style(light="#8a8f98", dark="#8a8f98", shape="circle", dash=(1, 0)),
}
"""How the winner and the other candidates are drawn: unlike every method."""
SEEDS = tuple(replace(OURS[WINNER], shape=shape, dash=(2, 3)) for shape in ("circle", "square", "triangle-up", "cross"))
"""How the best of each seed is drawn, where there are several."""


def drawing(
    found: Mapping[str, Any], geometry: RopeGeometry, rows: Mapping[str, Rotation]
) -> tuple[dict[str, Spec], dict[str, Style]]:
    """Both charts by title, with what hovering shows, and the styles that they need.

    Args:
        found: the result.
        geometry: of the model.
        rows: rotations by label, each named method's at its best, the seeds', the winner's; the last lies on top.
    """
    names = list(dict.fromkeys(_method(label) for label in rows))
    seeds = [name for name in names if name.startswith(SEED)]
    looks = styles(name for name in names if name not in (WINNER, *seeds))
    looks |= {name: SEEDS[i % len(SEEDS)] for i, name in enumerate(seeds)} | OURS
    curve = charts.stretch(_pairs(geometry, rows, found["window"]), looks, window=found["window"])
    front = charts.front(
        _front(found), looks, value="perplexity beyond the window", length=found["length"], log=True, dropping=None
    )
    return {"Stretch of every pair of dimensions": curve, "Every candidate on the search set": front}, looks


def _method(label: str) -> str:
    """What a row is drawn as: its method, or its seed."""
    return label.removeprefix(f"{WINNER} ") if label.startswith(f"{WINNER} {SEED}") else label.split(" ")[0]


def picture(parts: Mapping[str, Spec], looks: Mapping[str, Style]) -> bytes:
    """Both charts as one PNG, light, for search.md."""
    views = [_part(spec) | {"title": title, "width": WIDTH} for title, spec in parts.items()]
    whole = {"$schema": next(iter(parts.values()))["$schema"], "vconcat": views}
    whole["params"] = [{"name": "shown", "value": list(looks)}]
    whole["resolve"] = {"legend": {"color": "independent", "shape": "independent"}}
    return png(svg(whole, picture_config(looks)))


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
                    {"configuration": label, "method": _method(label), "pair": index}
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
