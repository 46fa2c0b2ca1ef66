"""Experiments that are tuned in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ropewalk.experiment import schema


def experiment(folder: Path, **changes: Any) -> schema.Experiment:
    raw = {
        "model": str(folder / "model"),
        "dtype": "float32",
        "lengths": [176],
        "methods": {"yarn": {"factor": 2}},
        "documents": {"files": [str(folder / "*.txt")], "count": 6},
        "metrics": {"perplexity": {}, "passkey": {"trials": 2}},
        "tune": {"probes": 1},
    }
    return schema.parse(raw | changes, "tune")
