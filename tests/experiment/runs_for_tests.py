"""Run an experiment given as a mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.results import Run


def run(raw: dict[str, Any], out: Path, **changes: Any) -> Run:
    """Run or resume."""
    return sweep(ask(schema.parse(raw, "test")), out, **changes)
