"""What `ropewalk plan` says: cells, duplicates, passes, tokens, time, memory, and what is done already."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ropewalk.errors import StoreError
from ropewalk.experiment.estimate import Estimate
from ropewalk.experiment.memory import Memory, memory_line
from ropewalk.experiment.prepare import Asked, geometry_facts
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store
from ropewalk.experiment.todo import todo
from ropewalk.rope import windows as window_line
from ropewalk.stats.findings.grid import never_turned


def overview(
    asked: Asked, out: Path | None, estimate: Estimate | None = None, memory: Memory | None = None
) -> dict[str, Any]:
    """The plan as JSON values; `duplicates` lists groups of cells that are one measurement.

    `fed_tokens` and `predicted_s` (finding key tokens aside) are null where no model was probed.
    """
    plan = asked.plan
    lengths, geometry = asked.experiment.lengths, geometry_facts(asked.geometry)
    return {
        "configurations": [config.label for config in plan.configurations],
        "lengths": lengths,
        **{name: geometry[name] for name in ("window", "window_source", "shipped_window", "max_position_embeddings")},
        "extends_nothing": lengths[-1] <= geometry["shipped_window"],
        "never_turned": never_turned(geometry, [(c.label, c.method, c.asked) for c in plan.configurations]),
        "documents": len(asked.documents),
        "windows": plan.documents // max(1, len(asked.documents)),
        "cells": len(plan.cells),
        "measurements": len({(cell.scheme, cell.length, cell.metric) for cell in plan.cells}),
        "rotations": len(plan.schemes),
        "passes": plan.passes,
        "tokens": plan.tokens,
        "prefill_tokens": plan.tokens - plan.decode_tokens,
        "decode_tokens": plan.decode_tokens,
        "fed_tokens": None if estimate is None else estimate.fed_tokens,
        "predicted_s": None if estimate is None else round(estimate.seconds, 1),
        "predicted_decode_s": None if estimate is None else round(estimate.decode_s, 1),
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


def time_line(estimate: Estimate | None, *, probed: bool = True) -> str:
    """How long a run takes, or why that is unknown; `probed` says whether a probe was asked for."""
    if not probed:
        return "time unknown: not probed"
    if estimate is None:
        return "time unknown: the weights are not on this machine, and a plan downloads nothing"
    decode = f" ({estimate.decode_s:.0f} s of them to generate token by token)" if estimate.decode_s else ""
    return (
        f"about {estimate.seconds:.0f} s on this machine{decode}, by a probe; shared beginnings of prompts leave "
        f"{estimate.fed_tokens:,} tokens to feed"
    )


def lines(found: dict[str, Any]) -> list[str]:
    """The overview for people, without the time: what is known before a model is loaded."""
    windows = f" x {found['windows']} windows" if found["windows"] > 1 else ""
    said = [
        f"{len(found['configurations'])} configurations x {len(found['lengths'])} lengths, {found['cells']} cells, "
        f"{found['measurements']} measurements, {found['rotations']} distinct rotations",
        f"{found['passes']} passes, {found['tokens']:,} tokens, {found['documents']} documents{windows}, "
        f"{found['passes_done']} passes done",
        window_line(found),
    ]
    if found["decode_tokens"]:
        said.insert(2, f"at most {found['decode_tokens']:,} of the tokens are generated one after another")
    if found["memory"] is not None:
        said.insert(2, memory_line(Memory(**found["memory"])))
    if found["extends_nothing"]:
        said.append(
            "every length lies inside the window, so this grid extends nothing; add lengths beyond "
            f"{found['shipped_window']:,}."
        )
    if found["never_turned"] is not None:
        said.append(found["never_turned"])
    for group in found["same_rotation"]:
        lengths = ", ".join(str(length) for length in group["lengths"])
        said.append(f"one measurement at {lengths}: {', '.join(group['configurations'])}")
    return said
