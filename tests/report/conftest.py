"""A real run of the tiny model, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, base_experiment: dict[str, Any]) -> Path:
    """A run directory: two methods, lengths on both sides of the window of 200, all metrics."""
    out = tmp_path_factory.mktemp("real") / "run"
    methods = {"yarn": {"factor": [2, 4]}, "linear": {"factor": 2}}
    asked = base_experiment | {"lengths": [192, 256], "window": 200, "methods": methods}
    sweep(ask(schema.parse(asked, "test")), out)
    return out
