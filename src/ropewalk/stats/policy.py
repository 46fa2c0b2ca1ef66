"""What to measure next, from what has been measured: asked again after every batch until there is nothing to ask; pure.

Nothing is remembered between calls: the same outcomes give the same looks, the same departures and the same next
request. So a run that was interrupted goes on where it was, and a finished one can be judged again from its store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ropewalk.stats.best import ASSUMING, distinct
from ropewalk.stats.blocks import Block
from ropewalk.stats.column import Column
from ropewalk.stats.intervals import ALPHA, FloatArray
from ropewalk.stats.sequential import Left, Look, Standing, judge

Why = Literal["decided", "precision", "budget", "everything read"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """One metric at one length, as far as it has been measured.

    Attributes:
        column, length: as in `Block`.
        numerators_CNW, denominators_CNW: float64 `[C, N, W]`, NaN where not measured yet; W is 1 for trials.
    """

    column: Column
    length: int
    labels: tuple[str, ...]
    units: tuple[str, ...]
    numerators_CNW: FloatArray
    denominators_CNW: FloatArray

    def block(self, labels: Sequence[str], look: Look) -> Block:
        """Outcomes of a look, windows pooled within documents."""
        index = [self.labels.index(label) for label in labels]
        part = np.s_[index, : look.units, : look.windows]
        return Block(
            column=self.column,
            lengths=(self.length,),
            labels=tuple(labels),
            units=self.units[: look.units],
            numerators_CN=self.numerators_CNW[part].sum(axis=2),
            denominators_CN=self.denominators_CNW[part].sum(axis=2),
        )

    def missing(self, labels: Sequence[str], look: Look) -> NDArray[np.intp]:
        """`[M, 3]`: configuration, unit and window of what the look needs and nobody measured, in reading order."""
        needed_CNW = np.zeros(self.numerators_CNW.shape, dtype=np.bool_)
        needed_CNW[[self.labels.index(label) for label in labels], : look.units, : look.windows] = True
        return np.argwhere(needed_CNW & np.isnan(self.numerators_CNW))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """Where a run stands.

    Attributes:
        look: the last one that was taken; None before the first.
        ask: `[M, 3]` configuration, unit and window to measure next; empty where the run is over.
        why: what ended it; None while there is something to ask.
    """

    standing: Standing
    look: Look | None
    ask: NDArray[np.intp]
    why: Why | None


def next_step(
    outcomes: Outcomes,
    schedule: Sequence[Look],
    *,
    alpha: float = ALPHA,
    precision: float | None = None,
    budget: int | None = None,
) -> Step:
    """The standing after every look that the outcomes allow, and what the next look needs.

    Args:
        outcomes: all that has been measured.
        alpha: chance of an error over the whole run.
        schedule: from `looks`, the same at every call of a run.
        precision: largest distance of an interval's ends from its value, nats (or share) apart from the observed best,
            that counts as precise: where all in the running are as precise, the run ends.
        budget: how many windows may still be measured; a look that needs more is not begun.
    """
    standing, taken = Standing(running=outcomes.labels), None
    for look in schedule:
        ask = outcomes.missing(standing.running, look)
        if len(ask):
            over = budget is not None and len(ask) > budget
            return Step(standing=standing, look=taken, ask=ask[:0] if over else ask, why="budget" if over else None)
        block = outcomes.block(standing.running, look)
        standing, taken = judge(standing, block, look, alpha), look
        why = _ended(block.only(standing.running), look, alpha, precision)
        if why is not None:
            return Step(standing=standing, look=look, ask=ask, why=why)
    return Step(standing=standing, look=taken, ask=np.empty((0, 3), dtype=np.intp), why="everything read")


def _ended(block: Block, look: Look, alpha: float, precision: float | None) -> Why | None:
    if distinct(block) == 1:
        return "decided"
    return "precision" if precision is not None and widest(block, alpha * look.share) <= precision else None


def widest(block: Block, alpha: float) -> float:
    """Furthest end of any interval against the observed best from its value; nats where a ratio is compared.

    The intervals of all pairs hold together at alpha, whichever is seen to be best. Infinite where one is missing.
    """
    best = block.labels[int(block.losses_C.argmin())]
    others = [label for label in block.labels if label != best and label not in block.same(best)]
    found, pairs = 0.0, len(block.labels) * (len(block.labels) - 1) / 2
    for label in others:
        ends = block.paired(label, best, 1 - alpha / pairs).interval
        if ends.low is None or ends.high is None:
            return np.inf
        ratio = block.column.is_ratio
        low, value, high = np.log([ends.low, ends.value, ends.high]) if ratio else (ends.low, ends.value, ends.high)
        found = max(found, float(value - low), float(high - value))
    return found


def sentence(left: Left) -> str:
    """Why a configuration was not measured any further, with what it was measured on."""
    ends, n = left.paired.interval, left.look.units
    of = f"{n} documents" if left.look.windows == 1 else f"{left.look.windows} windows of {n} documents"
    by = "" if ends.low is None or ends.high is None else f" [{ends.low:.4g}, {ends.high:.4g}]"
    return (
        f"{left.label} left after {of}: {ends.value:.4g}{by} against {left.rival}, "
        f"corrected p {left.p:.2g}, at most {left.look.share:.2g} of the run's chance of an error, {ASSUMING}."
    )
