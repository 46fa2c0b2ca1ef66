"""What the charts draw: stored outcomes as rows of plain JSON values; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.report.costs import Cost, short_costs
from ropewalk.report.parameters import moved
from ropewalk.report.recommend import value_of
from ropewalk.report.study import Study
from ropewalk.report.tables import depth_bin, depth_names
from ropewalk.report.wording import apart, change, measure
from ropewalk.scheme import Branch
from ropewalk.stats.blocks import Block
from ropewalk.stats.effective import pareto_front
from ropewalk.stats.intervals import Interval
from ropewalk.stats.measured import TRUNCATE, Measured
from ropewalk.stats.sensitivity import Step

FIRST_POSITION = 16
"""Losses before this position are left out of the curve: they are large, and the same for all."""
Point = dict[str, Any]
MOST_BENDS, MAP = 48, 24
"""Points of a line of distances, and places along each side of a map of them."""
MOST_LINES = 80
"""Configurations drawn at most in a chart of lines; the leaders of all methods are always among them."""


def methods_of(run: Measured) -> dict[str, str]:
    """Method of each label."""
    return {row.label: row.method for row in run.rows}


def leaders(run: Measured, block: Block) -> dict[str, str]:
    """Each method's best configuration at the judged length."""
    found: dict[str, str] = {}
    for method, labels in run.configurations.items():
        own = block.only(labels)
        if own.labels:
            found[method] = own.labels[int(own.losses_C.argmin())]
    return found


def drawn(run: Measured, leading: Mapping[str, str]) -> list[str]:
    """Labels that a chart of lines shows, leaders last, so that they lie on top."""
    others = [label for label in methods_of(run) if label not in leading.values() and label != TRUNCATE]
    return [*others[: max(0, MOST_LINES - len(leading))], *leading.values()]


def ratios(run: Measured, metric: str, reference: str, leading: Mapping[str, str]) -> list[Point]:
    """Perplexity of every drawn configuration over that of the reference at the same length, paired."""
    methods, found = methods_of(run), list[Point]()
    for length in run.lengths:
        block = run.blocks.get((metric, length))
        if block is None or reference not in block.labels:
            continue
        for label in drawn(run, leading):
            if label == reference or label not in block.labels:
                continue
            interval = block.paired(label, reference).interval
            if math.isfinite(interval.value) and interval.value > 0:
                value = measure(block.column, block.interval(label).exp())
                found.append(
                    _known(label, methods, leading)
                    | {"length": length, "ratio": interval.value, block.column.title: value}
                    | _ends(interval)
                    | {"change": change(interval), "documents": interval.n}
                )
    return found


def curve(study: Study, leading: Mapping[str, str]) -> list[Point]:
    """Loss by position; the position of a block is its geometric middle."""
    methods, wanted = methods_of(study.run), set(drawn(study.run, leading))
    return [
        _known(p.label, methods, leading)
        | {
            "position": math.sqrt(p.low * max(p.low, p.high - 1)),
            "positions": f"{p.low:,}" if p.high - p.low == 1 else f"{p.low:,} to {p.high - 1:,}",
            "nll": p.nll,
            "documents": p.n,
        }
        for p in study.curve
        if p.label in wanted and p.low >= min(FIRST_POSITION, p.length // FIRST_POSITION)
    ]


def found_map(study: Study, label: str, bins: int) -> list[Point]:
    """Share found by depth and length of one configuration."""
    groups: dict[tuple[int, int], list[bool]] = {}
    for trial in study.trials:
        if trial.label == label:
            groups.setdefault((trial.length, depth_bin(trial.depth, bins)), []).append(trial.found)
    return [
        {
            "configuration": label,
            "length": length,
            "depth": (index + 0.5) / bins,
            "depths": depth_names(bins)[index],
            "share": sum(found) / len(found),
            "found": f"{sum(found)} of {len(found)}",
            "short": f"{sum(found)}/{len(found)}",
        }
        for (length, index), found in sorted(groups.items())
    ]


def bins_of(study: Study) -> int:
    """Parts of the depth that hold about four trials each: 1 to 10."""
    most: dict[tuple[str, int], int] = {}
    for trial in study.trials:
        most[trial.label, trial.length] = most.get((trial.label, trial.length), 0) + 1
    return max(1, min(10, max(most.values(), default=1) // 4))


def pareto(run: Measured, block: Block, leading: Mapping[str, str]) -> list[Point]:
    """Cost at short lengths against the deciding metric at the judged length, and who is on the front."""
    length = block.lengths[0]
    methods, costs = methods_of(run), short_costs(run, length)
    known = [label for label in block.labels if label in costs and math.isfinite(costs[label].ratio.value)]
    values = {label: value_of(block, label).value for label in known}
    known = [label for label in known if math.isfinite(values[label])]
    losses = [-values[label] if block.column.higher_is_better else values[label] for label in known]
    front = {known[i] for i in pareto_front([costs[x].ratio.value for x in known], losses)}
    return [
        _known(label, methods, leading)
        | {"cost": costs[label].ratio.value, "cost at short lengths": _cost(costs[label])}
        | {"value": values[label], block.column.title: measure(block.column, value_of(block, label))}
        | {"front": label in front, "length": length}
        for label in known
    ]


def wavelengths(study: Study, leading: Mapping[str, str], length: int) -> list[Point]:
    """How much slower than unscaled each pair of dimensions turns, for each method's best configuration."""
    geometry, found = study.run.meta["geometry"], list[Point]()
    methods, window = methods_of(study.run), study.run.window
    dim, theta = int(geometry["rotary_dim"]), float(geometry["rope_theta"])
    for label in leading.values():
        row = next((r for r in study.run.rows if r.label == label and r.length == length), None)
        inv_freq, factor = study.rotations.get(row.fingerprint if row else "", ((), 1.0))
        for index, turned in enumerate(inv_freq):
            plain = theta ** (-2 * index / dim)
            if turned > 0:
                found.append(
                    _known(label, methods, leading)
                    | {"pair": index, "unscaled": 2 * math.pi / plain, "stretch": plain / turned}
                    | {"wavelength": 2 * math.pi / turned, "turns": window * plain / (2 * math.pi)}
                    | {"attention factor": factor}
                )
    return found


def told(study: Study, leading: Mapping[str, str], length: int) -> list[Point]:
    """How far away the last token is told that others are, branch by branch: where that bends, or evenly spread."""
    methods, places, found = methods_of(study.run), np.arange(length), list[Point]()
    for label, branches in _branched(study, leading.values(), length).items():
        for place, branch in enumerate(branches, 1):
            seen = np.flatnonzero(branch.holds(places[-1:], places)[0])
            distances = branch.distances(places[-1:], places)[0]
            for key in seen[_bends(distances[seen])]:
                found.append(
                    _known(label, methods, leading)
                    | {"meant": length - 1 - int(key), "told": float(distances[key])}
                    | {"branch": f"{place} of {len(branches)}"}
                )
    return found


def _bends(values_N: NDArray[np.float64]) -> NDArray[np.intp]:
    """Places `[B]` where a line through all values bends, with its ends; of too many bends evenly spread places."""
    bends = np.flatnonzero(np.diff(values_N, 2)) + 1
    if len(bends) > MOST_BENDS:
        bends = np.linspace(0, len(values_N) - 1, MOST_BENDS).round().astype(int)
    return np.unique([0, *bends, len(values_N) - 1]) if len(values_N) else bends


def map_of(study: Study, label: str, length: int) -> list[Point]:
    """What a query is told of a key, at places spread over the length; nothing of what it does not see."""
    places, found = np.unique(np.linspace(0, length - 1, MAP).round().astype(int)), list[Point]()
    for branches in _branched(study, [label], length).values():
        for place, branch in enumerate(branches, 1):
            seen, distances = branch.holds(places, places), branch.distances(places, places)
            for query, key in np.argwhere(seen):
                found.append(
                    {"configuration": label, "query": int(places[query]), "key": int(places[key])}
                    | {"meant": int(places[query] - places[key]), "told": float(distances[query, key])}
                    | {"branch": f"{place} of {len(branches)}"}
                )
    return found


def _branched(study: Study, labels: Iterable[str], length: int) -> dict[str, tuple[Branch, ...]]:
    """The branches of those configurations that have some at a length."""
    at = {row.label: row.fingerprint for row in study.run.rows if row.length == length}
    return {label: found for label in labels if (found := study.branches.get(at.get(label, "")))}


def gains(study: Study, label: str, length: int) -> list[Point]:
    """What one configuration multiplies the query of each layer and head by: the mean of g over its pairs as a factor,
    and how far single pairs go; nothing where it has no gains."""
    row = next((r for r in study.run.rows if r.label == label and r.length == length), None)
    log = study.gains.get(row.fingerprint) if row else None
    if log is None:
        return []
    return [
        {
            "configuration": label,
            "layer": layer,
            "head": head,
            "mean": float(own.mean()),
            "factor": math.exp(own.mean()),
            "least": math.exp(own.min()),
            "most": math.exp(own.max()),
        }
        for layer, heads in enumerate(log)
        for head, own in enumerate(heads)
    ]


def effects(block: Block, found: Mapping[str, Iterable[Step]]) -> list[Point]:
    """Every step of a parameter as a point with its interval; ratios, or differences where the metric is a share."""
    points: list[Point] = []
    for method, steps in found.items():
        for step in steps:
            interval = step.paired.interval
            if math.isfinite(interval.value):
                points.append(
                    {"method": method, "step": f"{method} {moved(step)}"}
                    | {"from": step.labels[0], "to": step.labels[1], "ratio": interval.value}
                    | _ends(interval)
                    | {"change": apart(block.column, interval), "p (Holm)": step.adjusted_p, "documents": interval.n}
                )
    return points


def _known(label: str, methods: Mapping[str, str], leading: Mapping[str, str]) -> Point:
    return {"configuration": label, "method": methods[label], "leads": label in leading.values()}


def _ends(interval: Interval) -> Point:
    """Ends that can be drawn; null where there is no interval."""
    drawable = interval.low is not None and interval.high is not None and math.isfinite(interval.high)
    return {"low": interval.low if drawable else None, "high": interval.high if drawable else None}


def _cost(cost: Cost) -> str:
    return f"{change(cost.ratio)} at {cost.length:,}"
