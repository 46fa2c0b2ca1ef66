"""Measure RoPE context extension on your own model.

import ropewalk as rw

run = rw.sweep("smollm2", methods={"yarn": {"factor": [2, 4]}}, lengths=[2048, 8192], out="runs/yarn")
run.frame()                                   # pandas, one row per cell
with rw.patched(model, rotation): ...         # any evaluation of yours under a rotation
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ropewalk.errors import RopewalkError, UnfinishedRun
from ropewalk.rope import RopeGeometry, Rotation

if TYPE_CHECKING:
    from ropewalk.api import load, rotation, search, sweep, tune
    from ropewalk.diagnosis.readback import diagnose
    from ropewalk.experiment.results import Run
    from ropewalk.models.patch import patched

__version__ = "0.1.0"
__all__ = [
    "RopeGeometry",
    "RopewalkError",
    "Rotation",
    "Run",
    "UnfinishedRun",
    "diagnose",
    "load",
    "patched",
    "rotation",
    "search",
    "sweep",
    "tune",
]

_LAZY = {
    "Run": "ropewalk.experiment.results",
    "diagnose": "ropewalk.diagnosis.readback",
    "load": "ropewalk.api",
    "patched": "ropewalk.models.patch",
    "rotation": "ropewalk.api",
    "search": "ropewalk.api",
    "sweep": "ropewalk.api",
    "tune": "ropewalk.api",
}


def __getattr__(name: str) -> Any:
    """Import torch and transformers only when something of theirs is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module 'ropewalk' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
