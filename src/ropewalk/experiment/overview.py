"""What `ropewalk plan` says: cells, duplicates, passes, tokens, time, memory, and what is done already."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ropewalk.errors import StoreError
from ropewalk.experiment.estimate import Estimate
from ropewalk.experiment.memory import Memory, memory_line
from ropewalk.experiment.prepare import Asked
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store
from ropewalk.experiment.todo import todo


def overview(
    asked: Asked, out: Path | None, estimate: Estimate | None = None, memory: Memory | None = None
) -> dict[str, Any]:
    """The plan as JSON values; `duplicates` lists groups of cells that are one measurement.

    `fed_tokens` and `predicted_s` (finding key tokens aside) are null where no model was probed.
    """
    plan = asked.plan
    lengths = asked.experiment.lengths
    window = asked.geometry.window("stack")
    return {
        "configurations": [config.label for config in plan.configurations],
        "lengths": lengths,
        "window": window.length,
        "window_source": window.source,
        "extends_nothing": lengths[-1] <= window.length,
        "documents": plan.documents,
        "cells": len(plan.cells),
        "measurements": len({(cell.scheme, cell.length, cell.metric) for cell in plan.cells}),
        "rotations": len(plan.schemes),
        "passes": plan.passes,
        "tokens": plan.tokens,
        "fed_tokens": None if estimate is None else estimate.fed_tokens,
        "predicted_s": None if estimate is None else round(estimate.seconds, 1),
        "memory": None if memory is None else asdict(memory),
        "passes_done": _done(asked, out),
        "duplicates": plan.duplicates(),
        "same_rotation": plan.same_rotation(),
    }


def _done(asked: Asked, out: Path | None) -> int:
    if out is None or not Store.exists(out):
        return 0
    plan = asked.plan
    store = Store.open_run(out, read_only=True)
    try:
        raw = Raw.read(store)
        if raw.experiment != asked.experiment:
            raise StoreError(f"{out}: holds another experiment, so none of this one is done there; name its directory.")
        return plan.passes - sum(len(chunk.tasks) for chunk in todo(plan, raw.index))
    finally:
        store.close()


def _time(found: dict[str, Any]) -> str:
    if found["predicted_s"] is None:
        return "time unknown: the weights are not on this machine, and a plan downloads nothing"
    return (
        f"about {found['predicted_s']:.0f} s on this machine, by a probe; shared beginnings of prompts leave "
        f"{found['fed_tokens']:,} tokens to feed"
    )


def lines(found: dict[str, Any]) -> list[str]:
    """The overview for people."""
    said = [
        f"{len(found['configurations'])} configurations x {len(found['lengths'])} lengths, {found['cells']} cells, "
        f"{found['measurements']} measurements, {found['rotations']} distinct rotations",
        f"{found['passes']} passes, {found['tokens']:,} tokens, {found['documents']} documents, "
        f"{found['passes_done']} passes done",
        _time(found),
        f"window {found['window']} tokens ({found['window_source']})",
    ]
    if found["memory"] is not None:
        said.insert(3, memory_line(Memory(**found["memory"])))
    if found["extends_nothing"]:
        said.append(
            f"every length lies inside the window, so this grid extends nothing; add lengths beyond {found['window']}."
        )
    for group in found["same_rotation"]:
        lengths = ", ".join(str(length) for length in group["lengths"])
        said.append(f"one measurement at {lengths}: {', '.join(group['configurations'])}")
    return said
