"""How much more evidence would settle which of the best set is best, and the command that gathers it; pure."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ropewalk.stats.best import best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.intervals import ALPHA
from ropewalk.stats.power import CHANCE, units_for_width, units_needed, with_windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What it takes to tell a configuration from the observed best, if they differ by what was observed.

    Attributes:
        difference: what is observed, nats, bits or share; > 0.
        units: documents or trials in all, for a chance of 80 %; None if a million would not do.
        units_if_equal: so many show instead that the two are within the stated precision of each other; None likewise.
    """

    label: str
    difference: float
    units: int | None
    units_if_equal: int | None


def needed(block: Block, *, precision: float, alpha: float = ALPHA, windows: int | None = None) -> tuple[Needed, ...]:
    """For every rival that cannot be told from the observed best, fewest units first; empty where all is settled.

    Args:
        block: what has been measured.
        precision: the difference that does not matter, in the unit of `Needed.difference`.
        alpha: chance of an error, corrected for the pairs of the best set.
        windows: of each document; as many as were measured if None.

    Raises:
        ValueError: other windows than were measured, and nothing says what they are worth.
    """
    best = best_set(block, alpha)
    same = set() if best.winner is None else {best.winner, *block.same(best.winner)}
    rivals = [label for label in best.members if label not in same]
    if best.winner is None or not rivals:
        return ()
    members = block.only(best.members)
    pairs = len(best.members) * (len(best.members) - 1) // 2
    found = []
    for label in rivals:
        deviation = _deviation(members, label, best.winner, windows)
        difference = abs(float(members.losses_C[members.labels.index(label)] - members.losses_C.min()))
        found.append(
            Needed(
                label=label,
                difference=difference,
                units=units_needed(difference, deviation, alpha=alpha / pairs, chance=CHANCE)
                if difference and deviation > 0
                else None,
                units_if_equal=units_for_width(precision, deviation, 1 - alpha / pairs) if deviation > 0 else None,
            )
        )
    return tuple(sorted(found, key=lambda each: math.inf if each.units is None else each.units))


def documents_for(block: Block, precision: float, alpha: float = ALPHA) -> dict[int, int | None]:
    """Documents that make every interval among those that may be the best reach no further than the precision, by
    windows of each: 1, 2, 4 and 8 where their worth is known, else as many as were measured. None if a million would
    not do; empty where nothing is open.

    Args:
        block: what has been measured.
        precision: nats of mean loss, bits or share.
        alpha: chance that any of the intervals misses.
    """
    counts = (1, 2, 4, 8) if block.between is not None else (block.windows,)
    found = dict[int, int | None]()
    for windows in counts:
        each = [rival.units_if_equal for rival in needed(block, precision=precision, alpha=alpha, windows=windows)]
        if each:
            found[windows] = None if None in each else max(units for units in each if units is not None)
    return found


def _deviation(block: Block, label: str, best: str, windows: int | None) -> float:
    """Standard deviation over documents of the difference of two configurations; NaN from one document."""
    (x_N, y_N), (best_x_N, best_y_N) = block.row(label), block.row(best)
    used_N = (y_N > 0) & (best_y_N > 0)
    apart_N = x_N[used_N] / y_N[used_N] - best_x_N[used_N] / best_y_N[used_N]
    spread = float(np.std(apart_N, ddof=1)) if apart_N.size > 1 else math.nan
    if windows is None or windows == block.windows:
        return spread
    if block.between is None:
        raise ValueError(f"windows={windows} are worth what several windows of each document say; measure some")
    return with_windows(spread / with_windows(1.0, block.between, block.windows), block.between, windows)


def command(directory: str, changes: Mapping[str, int]) -> str:
    """The command that measures a run's experiment with such changes, and takes what the run has measured.

    Args:
        directory: of the run.
        changes: values by key, such as 17 for documents.count.
    """
    more = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    found = ["ropewalk", "run", directory, "--until", "decided", *more, "--reuse", directory, "--out"]
    return shlex.join([*found, f"{directory.rstrip('/')}-more"])


def changed(*, units: int, available: int, windows: int) -> dict[str, int]:
    """What to ask for so that there are so many documents, or as many as there are and at least so much more of each.

    Args:
        units: documents wanted, of as many windows each as were measured.
        available: documents that there are.
        windows: measured of each.
    """
    count = min(units, available)
    each = windows * math.ceil(units / count)
    return {"documents.count": count} | ({"documents.windows": each} if each > 1 else {})
