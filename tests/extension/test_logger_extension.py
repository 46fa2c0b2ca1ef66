"""A logger of another package sees what a run stores, ends with it, and never ends it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from ropewalk.cli import app, err
from ropewalk.execution import loggers
from ropewalk.experiment.results import Run
from ropewalk.terminal import run_app

KEPT = '''
"""A logger that keeps what it is told."""

import contextlib

from ropewalk.execution.loggers import Logger

SAID = []


class Log:
    fails = False

    def progress(self, done, total):
        SAID.append(("progress", done, total))

    def cell(self, row):
        if Log.fails:
            raise OSError("no network")
        SAID.append(("cell", dict(row)))


@contextlib.contextmanager
def begin(out, experiment):
    SAID.append(("begin", out.name, sorted(experiment["methods"])))
    try:
        yield Log()
    except BaseException as wrong:
        SAID.append(("ended", type(wrong).__name__))
        raise
    SAID.append(("ended",))


LOGGER = Logger(name="kept", summary="keeps what it is told", begin=begin)
TAKEN = Logger(name="mlflow", summary="", begin=begin)
'''


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def sweep(
    experiment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """`ropewalk run` of one method and length, with options."""
    raw = experiment(metrics={"perplexity": {}}, methods={"linear": {"factor": 2}}, lengths=[128])
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")

    def call(*options: object) -> Said:
        words = ["ropewalk", "run", tmp_path / "e.yaml", "--out", tmp_path / "run", *options]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        return Said(run_app(app, err), *capsys.readouterr())

    return call


@pytest.fixture
def kept(install: Any) -> Any:
    install("keptlogger", {loggers.GROUP: {"kept": "LOGGER"}}, KEPT)
    import keptlogger

    return keptlogger


def test_a_log_sees_every_cell_once_as_it_is_stored(kept: Any, sweep: Any, tmp_path: Path) -> None:
    assert sweep("--log", "kept").code == 0
    first, *between, last = kept.SAID
    assert (first, last) == (("begin", "run", ["linear"]), ("ended",))
    cells = [said[1] for said in between if said[0] == "cell"]
    stored = Run.read(tmp_path / "run").labelled_rows()
    by_name = lambda row: (row["label"], row["metric"])  # noqa: E731
    assert sorted(cells, key=by_name) == sorted(stored, key=by_name)
    done = [said[1:] for said in between if said[0] == "progress"]
    assert done == sorted(done)
    assert done[-1][0] == done[-1][1] > 0


def test_a_log_that_fails_is_left_and_the_run_goes_on(
    kept: Any, sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kept.Log, "fails", True)
    with caplog.at_level(logging.WARNING):
        assert sweep("--log", "kept").code == 0
    assert caplog.messages == ["--log kept: OSError: no network; nothing more is logged, the run goes on."]
    assert Run.read(tmp_path / "run").missing.cells == 0
    assert kept.SAID[-1] == ("ended",)


def test_an_interrupt_ends_the_log(kept: Any, sweep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ropewalk.execution.worker.Worker.row", stop)
    assert sweep("--log", "kept").code == 130
    assert kept.SAID[-1] == ("ended", "KeyboardInterrupt")


def test_refusals_name_the_logger_and_begin_nothing(sweep: Any, install: Any, tmp_path: Path) -> None:
    assert sweep("--log", "tensorboard").err == (
        "ropewalk: --log tensorboard: is unknown; give one of trackio, wandb, mlflow.\n"
    )
    install("taker", {loggers.GROUP: {"mlflow": "TAKEN"}}, KEPT)
    assert "the logger name 'mlflow' is taken by ropewalk itself" in sweep("--log", "mlflow").err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", list(loggers.LOGGERS))
def test_a_package_that_is_missing_is_named(
    name: str, sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    said = sweep("--log", name)
    assert said.err == (
        f"ropewalk: --log {name}: its package is not installed; run pip install {name}; "
        "mend that, or leave --log out.\n"
    )
    assert (said.code, (tmp_path / "run").exists()) == (2, False)
