"""The process that benchmarks/kills.py kills; imported by a fork server, which has the model in memory and is warm."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import torch

from ropewalk import models
from ropewalk.execution import run
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.store import Store
from ropewalk.report.write import report

EXPERIMENT: dict[str, Any] = {
    "model": "strand",
    "dtype": "float32",
    "lengths": [192, 384],
    "documents": {"corpus": "builtin", "count": 2},
    "methods": {"yarn": {"factor": 4}},
    "metrics": {"perplexity": {}, "passkey": {"trials": 2}},
    "seed": 7,
}
PHASES = ("interpreter and imports", "start", "scoring", "raw file", "transaction", "report", "after the end")
THREADS = 1
"""Of every session: the order of a sum, and so the last bits, depend on it."""

torch.set_num_threads(THREADS)
LOADED = models.load(models.ModelSpec(id="strand"), dtype="float32")
ASKED = ask(schema.parse(EXPERIMENT, "kills"), LOADED)
with tempfile.TemporaryDirectory() as _scratch:
    run.sweep(ASKED, Path(_scratch) / "warm")


def victim(out: Path, phase: Synchronized[int], die_at: int | None, reports: bool) -> None:
    """Sweep and perhaps report in this process, telling the phase; die at the n-th step on the disk."""
    phase.value = PHASES.index("start")
    steps = 0

    def inside(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.contextmanager
        def marked() -> Any:
            nonlocal steps
            before, phase.value = phase.value, PHASES.index(name) if name else phase.value
            steps += 1
            if steps == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield
            phase.value = before

        def marking(*args: Any, **kwargs: Any) -> Any:
            with marked():
                return function(*args, **kwargs)

        return marking

    Store.write_arrays = inside("raw file", Store.write_arrays)  # type: ignore[method-assign]
    Store.insert = inside("transaction", Store.insert)  # type: ignore[method-assign]
    os.replace, os.fsync = inside("", os.replace), inside("", os.fsync)
    session = run.Session.run

    def scoring(*args: Any) -> None:
        phase.value = PHASES.index("scoring")
        session(*args)

    run.Session.run = scoring  # type: ignore[method-assign]
    run.sweep(ASKED, out)
    phase.value = PHASES.index("report")
    if reports:
        report(out)
    phase.value = PHASES.index("after the end")
