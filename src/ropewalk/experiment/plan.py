"""The plan: which cells were asked for, which of them are one measurement, and the passes that serve them all; pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ropewalk.errors import ExperimentError
from ropewalk.experiment.schema import Experiment
from ropewalk.files import sha256
from ropewalk.methods import Params, asked, describe, expand, make_params, resolve
from ropewalk.metrics.metric import Documents, Metric, Prompts
from ropewalk.metrics.readings import Reading, cut
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Scheme
from ropewalk.stats.column import Column
from ropewalk.stats.measured import TRUNCATE

MAX_CELLS = 100_000


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
        source: the metric whose column it is.
        fingerprint: of what its passes run under.
        scheme: fingerprint of its whole scheme, in which a cut context counts.
        needs: what its value is made of.
    """

    label: str
    method: str
    asked: Mapping[str, Any] = field(hash=False)
    resolved: Mapping[str, Any] = field(hash=False)
    length: int
    column: Column
    source: Metric = field(hash=False, repr=False)
    options: Any = field(hash=False, repr=False)
    fingerprint: str
    scheme: str
    needs: Documents | Prompts

    @property
    def metric(self) -> str:
        """The name of its column."""
        return self.column.name

    @property
    def readings(self) -> tuple[Reading, ...]:
        """The losses that it is made of, the same for every document; empty where it is made of answers."""
        return self.needs.readings if isinstance(self.needs, Documents) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A pass without its document: from which token, with BOS in its place or not, under which scheme."""

    fingerprint: str
    start: int
    bos: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """The prompts of one metric at one length, under one scheme."""

    fingerprint: str
    metric: str
    length: int
    prompts: Prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a run does.

    Attributes:
        schemes: what passes run under, by fingerprint.
        feeds: for each feed the ends it must reach, ascending; the last one serves all.
        prompts: sets of prompts.
        documents: number of documents each feed is run on.
    """

    configurations: tuple[Configuration, ...]
    schemes: Mapping[str, Scheme] = field(hash=False)
    cells: tuple[Cell, ...]
    feeds: Mapping[Feed, tuple[int, ...]] = field(hash=False)
    prompts: tuple[PromptSet, ...]
    documents: int

    @property
    def passes(self) -> int:
        """Rows that go through the model, out-of-memory repeats aside."""
        return len(self.feeds) * self.documents + sum(each.prompts.count for each in self.prompts)

    @property
    def tokens(self) -> int:
        """Positions that go through the model."""
        fed = sum(ends[-1] - feed.start for feed, ends in self.feeds.items()) * self.documents
        return fed + sum(each.length * each.prompts.count for each in self.prompts)

    @property
    def decode_tokens(self) -> int:
        """Of `tokens` those that are generated one by one, at most, as far as a plan without a tokenizer knows."""
        return sum(each.prompts.new_tokens * each.prompts.count for each in self.prompts)

    def same_rotation(self) -> list[dict[str, Any]]:
        """Which configurations are one scheme, at which lengths: `{"configurations": [...], "lengths": [...]}`."""
        at: dict[tuple[int, str], dict[str, None]] = {}
        for cell in self.cells:
            at.setdefault((cell.length, cell.scheme), {})[cell.label] = None
        groups: dict[tuple[str, ...], list[int]] = {}
        for (length, _), labels in at.items():
            if len(labels) > 1:
                groups.setdefault(tuple(labels), []).append(length)
        return [{"configurations": list(labels), "lengths": sorted(found)} for labels, found in groups.items()]

    def duplicates(self) -> list[list[str]]:
        """Groups of cells that are one measurement, as "label @ length metric" names, largest group first."""
        groups: dict[tuple[str, int, str], list[str]] = {}
        for cell in self.cells:
            key = (cell.scheme, cell.length, cell.metric)
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
        return sha256(json.dumps(value, sort_keys=True).encode())[:8]
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
    columns = [(metric, options, column) for metric, options in experiment.asked() for column in metric.columns]
    if (count := len(configs) * len(experiment.lengths) * len(columns)) > MAX_CELLS:
        raise ExperimentError(
            f"methods: {len(configs)} configurations x {len(experiment.lengths)} lengths x {len(columns)} metrics are "
            f"{count} cells, more than {MAX_CELLS}; split the grid."
        )
    schemes: dict[str, Scheme] = {}
    cells: list[Cell] = []
    for config in (*(c for c in configs if c.method != TRUNCATE), BASELINE):
        for length in experiment.lengths:
            resolved = resolve(geometry, config.method, config.params, length)
            found = [
                cell
                for metric, options, column in columns
                if (
                    cell := _cell(config, resolved.scheme, resolved.params, metric, options, column, length, experiment)
                )
                and _says_something(cell, resolved.scheme, geometry)
            ]
            if found:
                schemes.setdefault(resolved.scheme.fed.fingerprint, resolved.scheme.fed)
            cells += found
    sets = (
        PromptSet(fingerprint=cell.fingerprint, metric=cell.source.name, length=cell.length, prompts=cell.needs)
        for cell in cells
        if isinstance(cell.needs, Prompts)
    )
    return Plan(
        configurations=tuple(configs),
        schemes=schemes,
        cells=tuple(cells),
        feeds=_feeds(cells),
        prompts=tuple(dict.fromkeys(sets)),
        documents=documents,
    )


BASELINE = Configuration(method=TRUNCATE, params=make_params(TRUNCATE, {}), asked={}, label=TRUNCATE)
"""Dropping the context: part of every run at lengths beyond the window, asked for or not."""


def _cell(
    config: Configuration,
    scheme: Scheme,
    params: Mapping[str, Any],
    metric: Metric,
    options: Any,
    column: Column,
    length: int,
    experiment: Experiment,
) -> Cell | None:
    needs = metric.asks(column, options, length, experiment.lengths[-1])
    if needs is None:
        return None
    if scheme.context is not None and isinstance(needs, Documents):
        needs = Documents(readings=tuple(part for each in needs.readings for part in cut(each, scheme.context)))
    return Cell(
        label=config.label,
        method=config.method,
        asked=config.asked,
        resolved=params,
        length=length,
        column=column,
        source=metric,
        options=options,
        fingerprint=scheme.fed.fingerprint,
        scheme=scheme.fingerprint,
        needs=needs,
    )


def _says_something(cell: Cell, scheme: Scheme, geometry: RopeGeometry) -> bool:
    """Where the context is cut, only losses far in the text differ from the whole context's and say what it costs."""
    if scheme.context is None:
        return True
    beyond = cell.length > geometry.window("stack").length
    return beyond and cell.column.at_length and isinstance(cell.needs, Documents)


def _feeds(cells: Sequence[Cell]) -> dict[Feed, tuple[int, ...]]:
    ends: dict[Feed, set[int]] = {}
    for cell in cells:
        for reading in cell.readings:
            feed = Feed(fingerprint=cell.fingerprint, start=reading.start, bos=reading.bos)
            ends.setdefault(feed, set()).add(reading.high)
    return {feed: tuple(sorted(found)) for feed, found in ends.items()}
