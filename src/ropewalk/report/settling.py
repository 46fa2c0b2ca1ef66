"""What it takes to settle what a recommendation leaves open, and the command that gathers it; pure."""

from __future__ import annotations

import math

from ropewalk.report.recommend import Recommendation
from ropewalk.stats.measured import Measured
from ropewalk.stats.settle import CHANCE, command, needed

PERCENT = 1.0
"""The difference that does not matter."""
BUILTIN = 17
"""Documents in the built-in corpus."""


def settling(run: Measured, answer: Recommendation) -> list[str]:
    """For the rival that is told apart soonest: how many documents or trials, and how to measure them; empty where
    nothing is open or no number would do."""
    block = run.block(answer.column.name, answer.judged_at)
    if block is None or not (answer.column.is_ratio or answer.column.counts):
        return []
    precision = math.log1p(PERCENT / 100) if answer.column.is_ratio else PERCENT / 100
    open_yet = [
        each
        for each in needed(block.only(answer.best.members), precision=precision)
        if (each.units or 0) > len(block.units)
    ]
    if not open_yet:
        return []
    first, units = open_yet[0], open_yet[0].units or 0
    said = (
        f"{first.label} and {answer.best.winner} are told apart by about {answer.column.units(units)} in all, "
        f"{len(block.units)} of which are measured ({100 * CHANCE:.0f} % chance, if they differ as observed)."
    )
    if first.units_if_equal is not None:
        said += f" {first.units_if_equal:,} show that they are within {PERCENT:g} % of each other, if they are."
    if answer.column.unit != "document":
        return [said]
    builtin = run.experiment.get("documents", {}).get("corpus") == "builtin"
    windows = len(run.meta.get("documents") or block.units) // len(block.units)
    more = command("FILE", units=units, available=BUILTIN if builtin else units, windows=windows)
    return [said, more]
