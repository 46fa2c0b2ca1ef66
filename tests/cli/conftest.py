"""The command line inside this process: fast, and its output in hand."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from ropewalk.cli import app, err
from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.terminal import run_app

for group in ("models", "stats"):  # tiny_models, handmade_runs
    sys.path.append(str(Path(__file__).parents[1] / group))


def dumped(raw: dict[str, Any]) -> str:
    return yaml.safe_dump(raw, sort_keys=False)


class Said(NamedTuple):
    """Exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def ropewalk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["ropewalk", *map(str, arguments)])
        code = run_app(app, err)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def refused(ropewalk: Callable[..., Said]) -> Callable[..., str]:
    """The one sentence on stderr of a command that is refused with exit code 2."""

    def call(*arguments: object) -> str:
        said = ropewalk(*arguments)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("ropewalk: ")
        assert said.err.count("\n") == 1
        assert "Traceback" not in said.err
        return said.err.removeprefix("ropewalk: ").rstrip("\n")

    return call


@pytest.fixture
def file(experiment: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """An experiment file with some keys replaced; perplexity alone unless asked otherwise."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_text(dumped(experiment(**({"metrics": {"perplexity": {}}} | changes))), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def base_file(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "base.yaml"
    path.write_text(dumped(base_experiment), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished_run(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the base experiment; read only, see `finished_copy`."""
    out = tmp_path_factory.mktemp("cli-finished") / "run"
    sweep(ask(schema.parse(base_experiment, "test")), out)
    return out


@pytest.fixture
def finished_copy(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "copy"))
