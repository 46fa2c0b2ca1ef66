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
    from ropewalk import export, report
    from ropewalk.api import compare, load, plan, recommend, rotation, sweep, tune, verify
    from ropewalk.diagnosis.readback import diagnose
    from ropewalk.models.patch import patched
    from ropewalk.notebook import Run

__version__ = "0.1.0"
__all__ = [
    "RopeGeometry",
    "RopewalkError",
    "Rotation",
    "Run",
    "UnfinishedRun",
    "compare",
    "diagnose",
    "export",
    "load",
    "patched",
    "plan",
    "recommend",
    "report",
    "rotation",
    "sweep",
    "tune",
    "verify",
]

_LAZY = {
    "Run": "ropewalk.notebook",
    "diagnose": "ropewalk.diagnosis.readback",
    "patched": "ropewalk.models.patch",
} | dict.fromkeys(("compare", "load", "plan", "recommend", "rotation", "sweep", "tune", "verify"), "ropewalk.api")
_PACKAGES = ("export", "report")
"""Verbs that are also packages, and callable."""


def __dir__() -> list[str]:
    """The verbs and types, for completion."""
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Import torch and transformers only when something of theirs is asked for."""
    from importlib import import_module

    if name in _PACKAGES:
        return import_module(f"ropewalk.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'ropewalk' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
