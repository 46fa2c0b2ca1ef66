"""A finished run of the base experiment."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask

sys.path.append(str(Path(__file__).parents[1] / "models"))  # tiny_models


@pytest.fixture(scope="session")
def finished_run(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only; see `run_copy`."""
    out = tmp_path_factory.mktemp("trust") / "run"
    sweep(ask(schema.parse(base_experiment, "test")), out)
    return out


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run to do harm to."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))
