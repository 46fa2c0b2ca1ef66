"""The plan: which cells were asked for, which of them are one measurement, and the passes that serve them all; pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ropewalk.errors import ExperimentError
from ropewalk.experiment.schema import Experiment, Metrics
from ropewalk.methods import Params, asked, describe, expand, make_params, resolve
from ropewalk.metrics import longppl, perplexity
from ropewalk.metrics.readings import Reading
from ropewalk.rope import RopeGeometry, Rotation

MAX_CELLS = 100_000
TRUNCATE = "truncate"
NLL_METRICS = ("perplexity", "tail", "bits_per_byte", "longppl")

Metric = Literal["perplexity", "tail", "bits_per_byte", "longppl", "passkey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A method with parameters; `asked` holds what differs from the defaults, `label` says them in one line."""

    method: str
    params: Params
    asked: Mapping[str, Any] = field(hash=False)
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number that was asked for.

    Attributes:
        readings: what its value is made of, the same for every document; empty for passkey.
    """

    label: str
    method: str
    asked: Mapping[str, Any] = field(hash=False)
    resolved: Mapping[str, Any] = field(hash=False)
    length: int
    metric: Metric
    fingerprint: str
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A pass without its document: from which token, with BOS in its place or not, under which rotation."""

    fingerprint: str
    start: int
    bos: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a run does.

    Attributes:
        feeds: for each feed the ends it must reach, ascending; the last one serves all.
        passkeys: (fingerprint, length) pairs, each one set of trials.
        documents: number of documents each feed is run on.
        trials: passkey prompts per pair.
    """

    configurations: tuple[Configuration, ...]
    rotations: Mapping[str, Rotation] = field(hash=False)
    cells: tuple[Cell, ...]
    feeds: Mapping[Feed, tuple[int, ...]] = field(hash=False)
    passkeys: tuple[tuple[str, int], ...]
    documents: int
    trials: int

    @property
    def passes(self) -> int:
        """Rows that go through the model, out-of-memory repeats aside."""
        return len(self.feeds) * self.documents + len(self.passkeys) * self.trials

    @property
    def tokens(self) -> int:
        """Positions that go through the model."""
        fed = sum(ends[-1] - feed.start for feed, ends in self.feeds.items()) * self.documents
        return fed + sum(length for _, length in self.passkeys) * self.trials

    def same_rotation(self) -> list[dict[str, Any]]:
        """Which configurations are one rotation, at which lengths: `{"configurations": [...], "lengths": [...]}`."""
        at: dict[tuple[int, str], dict[str, None]] = {}
        for cell in self.cells:
            if cell.method != TRUNCATE:
                at.setdefault((cell.length, cell.fingerprint), {})[cell.label] = None
        groups: dict[tuple[str, ...], list[int]] = {}
        for (length, _), labels in at.items():
            if len(labels) > 1:
                groups.setdefault(tuple(labels), []).append(length)
        return [{"configurations": list(labels), "lengths": sorted(found)} for labels, found in groups.items()]

    def duplicates(self) -> list[list[str]]:
        """Groups of cells that are one measurement, as "label @ length metric" names, largest group first."""
        groups: dict[tuple[str, int, str], list[str]] = {}
        for cell in self.cells:
            if cell.method != TRUNCATE:
                key = (cell.fingerprint, cell.length, cell.metric)
                groups.setdefault(key, []).append(f"{cell.label} @ {cell.length} {cell.metric}")
        return sorted((names for names in groups.values() if len(names) > 1), key=len, reverse=True)


def label(method: str, params: Mapping[str, Any]) -> str:
    """A configuration in one line: `yarn factor=2 beta_fast=24`."""
    return " ".join([method, *(f"{key}={_short(value)}" for key, value in params.items())])


def _shown(params: Params, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a label shows: the factor, even at its default, and whatever differs from its default."""
    factor = getattr(params, "factor", None)
    return values if factor is None else {"factor": factor, **values}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list):
        return "[" + ",".join(_short(item) for item in value) + "]"
    if isinstance(value, Mapping):  # the content of a file, which has no name of its own
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
    return str(value)


def configurations(methods: Mapping[str, Any]) -> tuple[Configuration, ...]:
    """All asked configurations in written order, `none` first whether asked for or not."""
    found = {"none": Configuration(method="none", params=make_params("none", {}), asked={}, label="none")}
    for method, grids in methods.items():
        for grid in grids if isinstance(grids, list) else [grids]:
            _require_small(method, grid)
            for params in expand(method, {} if grid is None else grid):
                values = asked(params)
                name = label(method, _shown(params, values))
                found.setdefault(name, Configuration(method=method, params=params, asked=values, label=name))
    return tuple(found.values())


def _require_small(method: str, grid: Any) -> None:
    """Refuse a grid that would not even fit in memory, before it is multiplied out."""
    if isinstance(grid, Mapping):
        listed = {p["name"] for p in describe(method)["parameters"] if p["type"].startswith("list")}
        axes = {name: values for name, values in grid.items() if isinstance(values, list) and name not in listed}
        count = math.prod(len(values) for values in axes.values())
        if count > MAX_CELLS:
            sizes = " x ".join(f"{len(values)} {name}" for name, values in axes.items())
            raise ExperimentError(
                f"methods.{method}: {sizes} are {count} configurations, more than {MAX_CELLS}; split the grid."
            )


def make(experiment: Experiment, geometry: RopeGeometry, documents: int, configs: Sequence[Configuration]) -> Plan:
    """Lay out cells and the passes that serve them.

    Raises:
        MethodError: a configuration does not fit the model (such as a list of the wrong length).
        ExperimentError: more cells than MAX_CELLS.
    """
    rotations: dict[str, Rotation] = {}
    cells: list[Cell] = []
    metrics = _asked_metrics(experiment.metrics)
    if (count := len(configs) * len(experiment.lengths) * len(metrics)) > MAX_CELLS:
        raise ExperimentError(
            f"methods: {len(configs)} configurations x {len(experiment.lengths)} lengths x {len(metrics)} metrics are "
            f"{count} cells, more than {MAX_CELLS}; split the grid."
        )
    for config in configs:
        for length in experiment.lengths:
            resolved = resolve(geometry, config.method, config.params, length)
            rotations.setdefault(resolved.rotation.fingerprint, resolved.rotation)
            for metric in metrics:
                cells.append(
                    Cell(
                        label=config.label,
                        method=config.method,
                        asked=config.asked,
                        resolved=resolved.params,
                        length=length,
                        metric=metric,
                        fingerprint=resolved.rotation.fingerprint,
                        readings=_readings(metric, length, experiment),
                    )
                )
    cells += _baseline(experiment, geometry, rotations)
    return Plan(
        configurations=tuple(configs),
        rotations=rotations,
        cells=tuple(cells),
        feeds=_feeds(cells),
        passkeys=tuple(dict.fromkeys((c.fingerprint, c.length) for c in cells if c.metric == "passkey")),
        documents=documents,
        trials=experiment.metrics.passkey.trials if experiment.metrics.passkey else 0,
    )


def _asked_metrics(metrics: Metrics) -> list[Metric]:
    names: list[Metric] = []
    if metrics.perplexity is not None:
        names = ["perplexity", "tail", "bits_per_byte"]
    if metrics.longppl is not None:
        names.append("longppl")
    if metrics.passkey is not None:
        names.append("passkey")
    return names


def _readings(metric: Metric, length: int, experiment: Experiment) -> tuple[Reading, ...]:
    stride = experiment.metrics.perplexity.stride if experiment.metrics.perplexity else None
    if metric == "passkey":
        return ()
    if metric == "tail":
        return perplexity.tail(length)
    if metric == "longppl" and experiment.metrics.longppl and experiment.metrics.longppl.reading == "package":
        return longppl.without_bos(length)
    if metric == "longppl" or stride is None:
        return perplexity.whole(length)
    return perplexity.sliding(length, experiment.lengths[-1], stride)


def _baseline(experiment: Experiment, geometry: RopeGeometry, rotations: dict[str, Rotation]) -> list[Cell]:
    """The tail of the shipped model fed only its last window/2 tokens, at every length beyond its window."""
    window = geometry.window("stack").length
    if experiment.metrics.perplexity is None:
        return []
    rotation = resolve(geometry, "none", make_params("none", {}), max(2, window // 2)).rotation
    beyond = [length for length in experiment.lengths if length > window]
    if beyond:
        rotations.setdefault(rotation.fingerprint, rotation)
    return [
        Cell(
            label=TRUNCATE,
            method=TRUNCATE,
            asked={},
            resolved={},
            length=length,
            metric="tail",
            fingerprint=rotation.fingerprint,
            readings=perplexity.truncated(length, window),
        )
        for length in beyond
    ]


def _feeds(cells: Sequence[Cell]) -> dict[Feed, tuple[int, ...]]:
    ends: dict[Feed, set[int]] = {}
    for cell in cells:
        for reading in cell.readings:
            feed = Feed(fingerprint=cell.fingerprint, start=reading.start, bos=reading.bos)
            ends.setdefault(feed, set()).add(reading.high)
    return {feed: tuple(sorted(found)) for feed, found in ends.items()}
