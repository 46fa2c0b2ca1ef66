"""Run experiments here, and commands in processes that are there to be stopped."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ropewalk.execution import run as running
from ropewalk.execution import spans
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import Store


def run(raw: dict[str, Any], out: Path, **changes: Any) -> Run:
    """Run or resume."""
    return running.sweep(ask(schema.parse(raw, "test")), out, **changes)


def statuses(found: Run) -> set[str]:
    return {row["status"] for row in found.rows()}


def command(arguments: list[str], stderr: Path, moment: str, inside: Any) -> None:
    """The console script, which says when it has come to a moment and stays there."""
    from ropewalk.cli import main

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a shell; the fork server ignores it
    sys.argv = ["ropewalk", *arguments]
    os.dup2(os.open(stderr, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
    _stay(moment, inside)
    main()


def _stay(moment: str, inside: Any) -> None:
    keep, insert = spans.keep_documents, Store.insert

    def kept(*given: Any) -> Any:
        inside.set()
        time.sleep(60)
        return keep(*given)

    def inserted(store: Store, table: str, row: Any) -> None:
        insert(store, table, row)
        if table == "passes" and len(store.rows("SELECT file FROM passes")) > 4:
            inside.set()
            time.sleep(60)

    if moment == "between passes":
        spans.keep_documents = kept
    else:
        Store.insert = inserted  # type: ignore[method-assign]
