"""How much more evidence would settle which of the best set is best, and the command that gathers it; pure."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

import numpy as np

from ropewalk.stats.best import best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.power import units_for_width, units_needed, with_windows

CHANCE = 0.8


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


def needed(
    block: Block, *, precision: float, alpha: float = 0.05, windows: int = 1, between: float | None = None
) -> tuple[Needed, ...]:
    """For every rival that cannot be told from the observed best, fewest units first; empty where all is settled.

    Args:
        block: what has been measured, one window of each document.
        precision: the difference that does not matter, in the unit of `Needed.difference`.
        alpha: chance of an error, corrected for the pairs of the best set.
        windows: of each document in what is still to be measured.
        between: share of variance between documents (`clusters.between`); needed where windows > 1.

    Raises:
        ValueError: windows > 1 without a share.
    """
    if windows > 1 and between is None:
        raise ValueError(f"windows={windows} are worth what their share of variance between documents says; give it")
    best = best_set(block, alpha)
    same = set() if best.winner is None else {best.winner, *block.same(best.winner)}
    rivals = [label for label in best.members if label not in same]
    if best.winner is None or not rivals:
        return ()
    members = block.only(best.members)
    pairs = len(best.members) * (len(best.members) - 1) // 2
    found = []
    for label in rivals:
        (x_N, y_N), (best_x_N, best_y_N) = members.row(label), members.row(best.winner)
        used_N = (y_N > 0) & (best_y_N > 0)
        apart_N = x_N[used_N] / y_N[used_N] - best_x_N[used_N] / best_y_N[used_N]
        spread = float(np.std(apart_N, ddof=1)) if apart_N.size > 1 else math.nan
        if not spread > 0:
            found.append(Needed(label=label, difference=abs(float(apart_N.mean())), units=None, units_if_equal=None))
            continue
        deviation = with_windows(spread, between or 0.0, windows)
        difference = abs(float(members.losses_C[members.labels.index(label)] - members.losses_C.min()))
        found.append(
            Needed(
                label=label,
                difference=difference,
                units=units_needed(difference, deviation, alpha=alpha / pairs, chance=CHANCE) if difference else None,
                units_if_equal=units_for_width(precision, deviation, 1 - alpha / pairs),
            )
        )
    return tuple(sorted(found, key=lambda each: math.inf if each.units is None else each.units))


def command(experiment: str, *, units: int, available: int, windows: int) -> str:
    """The command that gathers so many documents, or as many as there are and at least so much more of each instead.

    Args:
        experiment: the experiment's file or preset, as the user wrote it.
        units: documents wanted, of as many windows each as were measured.
        available: documents that there are.
        windows: measured of each.
    """
    count = min(units, available)
    each = windows * math.ceil(units / count)
    more = [f"--set documents.count={count}", *([f"--set documents.windows={each}"] if each > 1 else [])]
    return " ".join(["ropewalk run", shlex.quote(experiment), "--until decided", *more])
