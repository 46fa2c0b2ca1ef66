"""What each parameter of each method does; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ropewalk.methods import describe, registered
from ropewalk.report.tables import Table
from ropewalk.report.wording import MISSING, apart, probability
from ropewalk.stats.blocks import Block
from ropewalk.stats.measured import NONE, TRUNCATE, Measured
from ropewalk.stats.sensitivity import Step, sensitivity


def steps(run: Measured, block: Block) -> dict[str, tuple[Step, ...]]:
    """Every step of every parameter at one length, by method."""
    params = {row.label: (row.method, row.asked) for row in run.rows if row.method not in (NONE, TRUNCATE)}
    known = {method: defaults(method) for method in {method for method, _ in params.values()}}
    by_method: dict[str, dict[str, Mapping[str, object]]] = {}
    for label, (method, values) in params.items():
        by_method.setdefault(method, {})[label] = known[method] | dict(values)
    return sensitivity(block, by_method)


def table(block: Block, found: Mapping[str, Sequence[Step]]) -> Table:
    """Every step of a parameter to its next value, everything else fixed."""
    rows = tuple(
        (
            method,
            moved(step),
            others(step),
            apart(block.column, step.paired.interval),
            probability(step.adjusted_p),
        )
        for method, all_steps in found.items()
        for step in all_steps
    )
    columns = ("method", "step", "others fixed at", f"change of {block.column.title}", "p (Holm)")
    return Table(columns=columns, rows=rows, numeric=frozenset({"p (Holm)"}))


def moved(step: Step) -> str:
    """`factor 2 → 4`."""
    return f"{step.parameter} {_short(step.before)} → {_short(step.after)}"


def _short(text: str) -> str:
    value = json.loads(text)
    return f"{value:g}" if isinstance(value, float) else text


def others(step: Step) -> str:
    """The parameters that stay fixed in a step, without those that are null."""
    values = {key: value for key, value in json.loads(step.fixed).items() if value is not None}
    return (
        ", ".join(f"{key}={_short(json.dumps(value, ensure_ascii=False))}" for key, value in values.items()) or MISSING
    )


def defaults(method: str) -> dict[str, object]:
    """Parameters at their defaults; none for a plug-in that is not installed here."""
    if method not in registered():
        return {}
    return {p["name"]: p["default"] for p in describe(method)["parameters"] if not p.get("required")}
