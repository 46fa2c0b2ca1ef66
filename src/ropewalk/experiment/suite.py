"""Several models in one experiment file: one experiment and one run directory per model, under one directory."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ropewalk.errors import ExperimentError, ModelError, RopewalkError, StoreError
from ropewalk.experiment import schema
from ropewalk.experiment.schema import Experiment
from ropewalk.files import read_inside, write_whole
from ropewalk.model_spec import ModelSpec

FILE = "suite.json"
MOST = 64
"""Models of a suite."""
MAX_BYTES = 4_000_000
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Experiments that differ in their model, by the name of their run directory; and models that are not installed.

    Attributes:
        experiments: in the order of the file.
        absent: why each model of `where_installed` that is left out is not here.
        how: what all runs were begun with, beside their experiments: exact, shard, until.
    """

    experiments: Mapping[str, Experiment]
    absent: Mapping[str, str] = field(default_factory=dict)
    how: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        runs = {name: experiment.resolved() for name, experiment in self.experiments.items()}
        return {"runs": runs, "absent": dict(self.absent), "how": dict(self.how)}


def is_suite(raw: Any) -> bool:
    """Whether a mapping read from YAML names several models."""
    return isinstance(raw, Mapping) and ("models" in raw or "where_installed" in raw)


def parse(raw: Mapping[str, Any], place: str) -> Suite:
    """The suite that a file asks for: `models`, and of `where_installed` those whose weights are on this machine.

    Raises:
        ExperimentError: as of one experiment; also both `model` and `models`, no model, or too many.
    """
    if "model" in raw:
        raise ExperimentError(f"{place}: names model {raw['model']!r} and models; give one of the two keys.")
    asked, here, absent = _list(raw, "models", place), list[Any](), dict[str, str]()
    for model in _list(raw, "where_installed", place):
        if reason := _missing(model):
            absent[ModelSpec.parse(model).id] = reason
        else:
            here.append(model)
    if not 0 < len(asked) + len(here) <= MOST:
        raise ExperimentError(
            f"{place}: models holds {len(asked) + len(here)} that are here; name from 1 to {MOST}, such as models: "
            "[strand, smollm2]."
        )
    rest = {key: value for key, value in raw.items() if key not in ("models", "where_installed")}
    experiments: dict[str, Experiment] = {}
    for model in (*asked, *here):
        experiments[_name(model, experiments)] = schema.parse(rest | {"model": model}, place)
    return Suite(experiments=experiments, absent=absent)


def _list(raw: Mapping[str, Any], key: str, place: str) -> list[Any]:
    found = raw.get(key, [])
    if not isinstance(found, list):
        raise ExperimentError(f"{place}: {key}={found!r} must be a list of models, such as [strand, smollm2].")
    return found


def _missing(model: Any) -> str:
    """Why a model cannot be measured without a download; empty if it can."""
    from ropewalk.models import source  # imports torch

    spec = ModelSpec.parse(model)
    try:
        return "" if source.is_here(source.find(spec)) else "its weights are not on this machine"
    except ModelError as error:
        return str(error)


def _name(model: Any, taken: Mapping[str, Any]) -> str:
    """A directory's name after a model, with a number behind it where that is taken."""
    last = re.sub(r"[^\w.-]", "-", ModelSpec.parse(model).id.rstrip("/").rpartition("/")[2].removesuffix(".gguf"))
    name = last.lstrip("._-")[:80] or "model"
    return next(each for each in (name, *(f"{name}-{n}" for n in range(2, MOST + 2))) if each not in taken)


def exists(directory: Path) -> bool:
    """Whether a suite was begun in a directory."""
    return (directory / FILE).is_file()


def begin(suite: Suite, out: Path) -> None:
    """Record a suite in its directory, or check that it is the one that was begun there; more models may join.

    Raises:
        StoreError: another suite was.
    """
    from ropewalk.experiment.guards import writing

    if exists(out):
        before = read(out)
        for name, experiment in before.experiments.items():
            same = name in suite.experiments and suite.experiments[name].resolved() == experiment.resolved()
            if not same or dict(before.how) != dict(suite.how):
                raise StoreError(
                    f"{out}: holds another suite (its {name} was asked otherwise); choose another --out, it is never "
                    "overwritten."
                )
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out, FILE, json.dumps(suite.plain(), indent=1).encode())


def read(directory: Path) -> Suite:
    """The suite that was begun in a directory.

    Raises:
        StoreError: its record is damaged, or a link stands where the run of a model is or will be.
    """
    try:
        raw = json.loads(read_inside(directory, FILE, MAX_BYTES))
        runs = {name: schema.stored(experiment) for name, experiment in raw["runs"].items() if NAME.fullmatch(name)}
        if not runs or len(runs) != len(raw["runs"]) or len(runs) > MOST:
            raise ValueError("names")
        absent = {str(name): str(reason) for name, reason in raw["absent"].items()}
        found = Suite(experiments=runs, absent=absent, how=dict(raw["how"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RopewalkError):
        raise StoreError(f"{directory / FILE}: is damaged; run the same file with --out {directory} again.") from None
    for run in (directory / name for name in runs):
        if run.is_symlink():
            raise StoreError(f"{run}: is a link, which no run of a suite is; put the directory itself there.")
    return found


def members(directory: Path) -> dict[str, Path]:
    """The run directory of every model of a suite, whether it was begun or not; empty where there is no suite."""
    return {name: directory / name for name in read(directory).experiments} if exists(directory) else {}
