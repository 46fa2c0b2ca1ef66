"""Sweeps in processes of their own, to be killed; imported by the fork server, so keep it importable alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ropewalk.execution import run, spans, worker
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.store import Store

BATCH_TOKENS = 512
"""Two rows of 256 tokens: many small batches, so many moments to be killed at."""


def sweep(raw: dict[str, Any], out: Path, die_at: int | None = None) -> None:
    """Run or resume; die (SIGKILL, as by `kill -9`) at the n-th step that touches the disk."""
    torch.set_num_threads(1)
    worker.batch_tokens = lambda *_: BATCH_TOKENS
    if die_at is not None:
        _die_at(die_at)
    run.sweep(ask(schema.parse(raw, "victim")), out)


def _die_at(last: int) -> None:
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            step()
            result = function(*args, **kwargs)
            step()
            return result

        return stepping

    os.replace = around(os.replace)
    os.fsync = around(os.fsync)
    Store.insert = around(Store.insert)  # inside a transaction
    Store.write_arrays = around(Store.write_arrays)


def hold(raw: dict[str, Any], out: Path, inside: Any, go: Any) -> None:
    """Run, and stop before the first pass until told to go on."""
    torch.set_num_threads(1)
    go_on = spans.keep_documents

    def held(*args: Any) -> Any:
        inside.set()
        go.wait(60)
        return go_on(*args)

    spans.keep_documents = held
    run.sweep(ask(schema.parse(raw, "victim")), out)
