"""The contract of a logger: who shows a run elsewhere while it goes on; three keep it, packages can add more.

Laws (tests/extension/test_logger_extension.py): a log sees every cell of the session once, with the value that is
stored; it ends with the run, however that ends; what its package raises ends the log and never the run.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ropewalk.errors import ExperimentError
from ropewalk.experiment.results import ROW_KEYS
from ropewalk.plugins import plugged_in

GROUP = "ropewalk.loggers"
_LOG = logging.getLogger(__name__)


class Log(Protocol):
    """What is told of one session."""

    def progress(self, done: int, total: int) -> None:
        """Tokens measured, of all that the run asks for."""
        ...

    def cell(self, row: Mapping[str, Any]) -> None:
        """A finished cell: the columns of `ropewalk results --json`, and its `label`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Logger:
    """A row of the table: `begin(run directory, experiment)` gives a log inside its block, and ends it behind it."""

    name: str
    summary: str
    begin: Callable[[Path, Mapping[str, Any]], AbstractContextManager[Log]]


class Guarded:
    """A log that a run outlives; an optional one, as none is asked for by most."""

    def __init__(self, name: str, log: Log | None) -> None:
        self.name, self.log = name, log
        self.seen: dict[tuple[Any, ...], Mapping[str, Any]] = {}

    def progress(self, done: int, total: int) -> None:
        """As `Log.progress`."""
        self._tell(lambda log: log.progress(done, total))

    def cells(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Stored cells, of which those that are new, or have another value than before, are told."""
        for cell in found:
            row = {key: cell[key] for key in (*ROW_KEYS, "label") if key != "params"} | {"params": cell["resolved"]}
            key = (cell["label"], cell["length"], cell["metric"])
            if self.seen.get(key) != row:
                self.seen[key] = row
                self._tell(lambda log, row=row: log.cell(row))

    def _tell(self, told: Callable[[Log], None]) -> None:
        if self.log is None:
            return
        try:
            told(self.log)
        except Exception as wrong:  # a network that went away, say
            self.log = None
            _say(self.name, wrong)


def _say(name: str, wrong: Exception) -> None:
    _LOG.warning("--log %s: %s: %s; nothing more is logged, the run goes on.", name, type(wrong).__name__, wrong)


@contextlib.contextmanager
def guarded(logger: Logger | None, out: Path, experiment: Mapping[str, Any]) -> Iterator[Guarded]:
    """The log of a session; one that nobody reads without a logger.

    Raises:
        ExperimentError: it cannot begin; the run has not begun either then.
    """
    if logger is None:
        yield Guarded("", None)
        return
    block = logger.begin(out, experiment)
    try:
        log = block.__enter__()
    except Exception as wrong:
        said = str(wrong) if isinstance(wrong, ExperimentError) else f"{type(wrong).__name__}: {wrong}"
        raise ExperimentError(f"--log {logger.name}: {said.rstrip('.')}; mend that, or leave --log out.") from wrong
    try:
        yield Guarded(logger.name, log)
    except BaseException as ended:  # Ctrl-C too: what shows the run elsewhere has to know
        _end(logger.name, block, ended)
        raise
    _end(logger.name, block, None)


def _end(name: str, block: AbstractContextManager[Log], ended: BaseException | None) -> None:
    try:
        block.__exit__(None if ended is None else type(ended), ended, None if ended is None else ended.__traceback__)
    except Exception as wrong:
        _say(name, wrong)


def logger(name: str) -> Logger:
    """The logger of that name.

    Raises:
        ExperimentError: there is none, or an entry point is broken.
    """
    known = LOGGERS | plugged_in(GROUP, Logger, LOGGERS, ExperimentError)
    if name not in known:
        raise ExperimentError(f"--log {name}: is unknown; give one of {', '.join(known)}.")
    return known[name]


def _package(name: str, install: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ExperimentError(f"its package is not installed; run pip install {install}") from None


@dataclass(frozen=True, slots=True)
class Charted:
    """A log of Weights & Biases, whose API trackio keeps: a chart per metric and length, a line per configuration."""

    run: Any

    def progress(self, done: int, total: int) -> None:
        self.run.log({"tokens": done, "share of tokens": done / max(total, 1)})

    def cell(self, row: Mapping[str, Any]) -> None:
        if row["value"] is not None:
            self.run.log({f"{row['metric']} at {row['length']}/{row['label']}": row["value"]})


def _charted(name: str) -> Callable[[Path, Mapping[str, Any]], AbstractContextManager[Log]]:
    @contextlib.contextmanager
    def begin(out: Path, experiment: Mapping[str, Any]) -> Iterator[Log]:
        package = _package(name, name)
        run = package.init(project="ropewalk", name=out.name, config=dict(experiment))
        try:
            yield Charted(run)
        finally:
            run.finish()

    return begin


@dataclass(frozen=True, slots=True)
class Tracked:
    """A log of MLflow: metrics by configuration, over length as the step."""

    client: Any
    run_id: str

    def progress(self, done: int, total: int) -> None:
        self.client.log_metric(self.run_id, "share of tokens", done / max(total, 1), step=done)

    def cell(self, row: Mapping[str, Any]) -> None:
        if row["value"] is not None:
            name = f"{row['metric']}/{row['label']}"
            plain = "".join(c if c.isalnum() or c in "_-. /" else " " for c in name)  # what MLflow takes in a name
            self.client.log_metric(self.run_id, plain, row["value"], step=row["length"])


@contextlib.contextmanager
def _tracked(out: Path, experiment: Mapping[str, Any]) -> Iterator[Log]:
    package = _package("mlflow", "mlflow")
    client = package.MlflowClient()
    known = client.get_experiment_by_name("ropewalk")
    home = client.create_experiment("ropewalk") if known is None else known.experiment_id
    run_id = client.create_run(home, run_name=out.name).info.run_id
    ended = "FAILED"
    try:
        client.log_dict(run_id, dict(experiment), "experiment.json")
        yield Tracked(client, run_id)
        ended = "FINISHED"
    finally:
        client.set_terminated(run_id, ended)


LOGGERS = {
    each.name: each
    for each in (
        Logger(name="trackio", summary="local charts, pip install trackio", begin=_charted("trackio")),
        Logger(name="wandb", summary="Weights & Biases, pip install wandb", begin=_charted("wandb")),
        Logger(name="mlflow", summary="MLflow, pip install mlflow", begin=_tracked),
    )
}
