"""What it takes to settle what a recommendation leaves open, and the command that gathers it; pure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropewalk.errors import ExperimentError
from ropewalk.report.recommend import Recommendation
from ropewalk.stats.blocks import Block
from ropewalk.stats.findings.finding import share
from ropewalk.stats.findings.quality import deciding_block
from ropewalk.stats.findings.windows import gained
from ropewalk.stats.measured import Measured
from ropewalk.stats.power import CHANCE
from ropewalk.stats.settle import changed, command, documents_for, needed

PERCENT = 1.0
"""The difference that does not matter."""
BUILTIN = 17
"""Documents in the built-in corpus."""
TRIALS = "metrics.{}.trials"
MOST = 64
"""Windows of a document that are worth proposing."""


def settling(run: Measured, answer: Recommendation, directory: Path) -> list[str]:
    """How many documents or trials tell apart the rival that takes the fewest, and all, and the command that measures
    the fewest; empty where nothing is open or no number would do."""
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
        f"{len(block.units)} of which are measured ({share(CHANCE)} chance, if they differ as observed)."
    )
    if len(open_yet) > 1:
        said += f" All {len(open_yet)} that are open take about {answer.column.units(open_yet[-1].units or 0)}."
    if first.units_if_equal is not None:
        said += f" {first.units_if_equal:,} show that these two are within {PERCENT:g} % of each other, if they are."
    decided = run.meta.get("decided")
    if decided is not None and decided["why"] in (None, "budget"):  # it was cut short, and asks for more itself
        return [said, shlex.join(["ropewalk", "resume", str(directory)])]
    if answer.column.unit != "document":
        asked = dict(run.experiment.get("metrics", {})).get(answer.column.name) or {}
        return [said, *([command(str(directory), {TRIALS.format(answer.column.name): units})] * ("trials" in asked))]
    available, windows = _available(run, units), block.windows
    worth = [each] if (each := gained(block)) else []
    while units > available and block.between is not None:
        windows *= 2
        if windows > MOST:
            return [f"{said} However many windows are read, {available} documents would not do.", *worth]
        again = needed(block.only(answer.best.members), precision=precision, windows=windows)
        units = next((each.units for each in again if each.label == first.label), None) or available + 1
    return [said, *worth, command(str(directory), changed(units=units, available=available, windows=windows))]


def _available(run: Measured, wanted: int) -> int:
    """Documents that there are: all of the built-in texts, or of files those of the run unless it took the first so
    many."""
    asked = run.experiment.get("documents", {})
    if asked.get("corpus") == "builtin":
        return BUILTIN
    return wanted if "count" in asked else len({row["cluster"] for row in run.meta.get("documents", ())}) or wanted


def precise(run: Measured, percent: float) -> dict[str, Any]:
    """Documents, by windows of each, at which every interval among those that may be the best at the longest length
    reaches no further than so many per cent, JSON values; `said` says it in sentences.

    Raises:
        ExperimentError: nothing measured has a unit to be precise in.
    """
    block = deciding_block(run, run.lengths[-1]) if run.lengths else None
    if block is None or not (block.column.is_ratio or block.column.counts) or len(block.units) < 2:
        raise ExperimentError(
            f"--precision {percent:g}%: takes a perplexity or a share of two configurations on two documents or more; "
            "measure some first."
        )
    found = documents_for(block, math.log1p(percent / 100) if block.column.is_ratio else percent / 100)
    plain: dict[str, Any] = {"precision": percent, "length": block.lengths[0], "metric": block.metric}
    plain["documents"] = {str(windows): units for windows, units in found.items()}
    return plain | {"said": _precise(block, percent, found) if found else ["Nothing is open: one may be the best."]}


def _precise(block: Block, percent: float, found: Mapping[int, int | None]) -> list[str]:
    column, several = block.column, len(found) > 1
    said = [
        f"{percent:g} % among those that may be the best, {column.phrase} at {block.lengths[0]:,}, by what is measured:"
    ]
    for windows, units in found.items():
        each = f" of {windows} window{'s' * (windows > 1)}" if several or windows > 1 else ""
        said.append("more than a million would do" if units is None else f"{column.units(units)}{each}")
    if not several and column.unit == "document":
        said.append("what more windows are worth is known once two of each are measured (documents.windows)")
    return said if gained(block) == "" else [*said, gained(block)]
