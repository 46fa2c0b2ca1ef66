"""Runs of tiny experiments."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs_for_tests import run

from ropewalk.experiment.results import Run


@pytest.fixture(scope="session")
def finished(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; read only, see `copied`."""
    out = tmp_path_factory.mktemp("finished") / "run"
    run(base_experiment, out, source="as written")
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A finished run to do harm to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def swept(experiment: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Run]:
    """Run an experiment with some keys replaced, in a fresh directory."""

    def make(out: Path | None = None, exact: bool = False, **changes: Any) -> Run:
        return run(experiment(**changes), out or tmp_path / "run", exact=exact)

    return make
