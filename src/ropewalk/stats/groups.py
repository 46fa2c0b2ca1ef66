"""What each group of units, such as a task, says: how far a configuration keeps it, and what it can tell apart.

Two readings of the same units are compared by the units' names. All of it is exploratory but for `tells_apart`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ropewalk.stats.blocks import Block
from ropewalk.stats.column import Column
from ropewalk.stats.compare import compare_to
from ropewalk.stats.intervals import ALPHA
from ropewalk.stats.measured import NONE, Measured

KEPT = 0.85
"""Of the unscaled model's score at its shortest length (NoLiMa); of a loss, of the probability of each token."""
ABSOLUTE = 0.856
"""The mean score that counts as keeping up, whoever's model it is (RULER)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The longest measured length up to which something is kept: None if not even the shortest; `lost_at`: the first
    length at which it is not, None if all keep it."""

    length: int | None
    lost_at: int | None


def kept(column: Column, value: float, reference: float) -> bool:
    """Whether a value keeps up with a reference."""
    return value >= KEPT * reference if column.higher_is_better else value <= reference - math.log(KEPT)


def reaches(values: Mapping[int, bool]) -> Reach:
    """From whether something is kept, by length."""
    reached: int | None = None
    for length, fine in sorted(values.items()):
        if not fine:
            return Reach(length=reached, lost_at=length)
        reached = length
    return Reach(length=reached, lost_at=None)


def values(run: Measured, column: Column) -> dict[tuple[str, str], dict[int, float]]:
    """The mean of each configuration and group, by length; the group "" is the mean of all groups, each as heavy."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for length in run.lengths:
        block = run.block(column.name, length)
        if block is None or not block.labels or not block.groups:
            continue
        parts = block.by_group()
        for index, label in enumerate(block.labels):
            means = {name: float(part.values_C[index]) for name, part in parts.items()}
            for name, value in {**means, "": sum(means.values()) / len(means)}.items():
                found.setdefault((label, name), {})[length] = value
    return found


def relative(run: Measured, column: Column) -> dict[tuple[str, str], Reach]:
    """How far each configuration keeps each group, and all ("") together, against `none` at its shortest length."""
    found = values(run, column)
    first = {name: own[min(own)] for (label, name), own in found.items() if label == NONE}
    return {
        (label, name): reaches({length: kept(column, value, first[name]) for length, value in own.items()})
        for (label, name), own in found.items()
        if name in first
    }


def absolute(run: Measured, column: Column) -> dict[str, Reach]:
    """How far each configuration's mean score stays at ABSOLUTE; nothing of a loss."""
    if not column.higher_is_better:
        return {}
    found = values(run, column)
    return {
        label: reaches({length: value >= ABSOLUTE for length, value in own.items()})
        for (label, name), own in found.items()
        if not name
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """A group in which one reading finds a configuration better than `none`, and the other worse, each by an interval
    of 95 % that is not corrected."""

    length: int
    group: str
    label: str
    loss: float
    score: float


def readings(run: Measured) -> tuple[Column, Column] | None:
    """A loss and a score of the same units, by name; None where no units are read twice."""
    units = {column.name: _units(run, column) for column in run.grouped}
    for loss in run.grouped:
        for score in run.grouped:
            if not loss.higher_is_better and score.higher_is_better and units[loss.name] & units[score.name]:
                return loss, score
    return None


def _units(run: Measured, column: Column) -> set[str]:
    return {unit for (metric, _), block in run.blocks.items() if metric == column.name for unit in block.units}


def disagreements(run: Measured) -> list[Disagreement]:
    """Where the two readings say opposite things of a configuration."""
    pair = readings(run)
    if pair is None:
        return []
    found = list[Disagreement]()
    for length in run.lengths:
        one, other = (run.block(column.name, length) for column in pair)
        if one is None or other is None or NONE not in one.labels or NONE not in other.labels:
            continue
        scores = other.by_group()
        for name, part in one.by_group().items():
            for label in part.labels:
                if name in scores and label != NONE and label in scores[name].labels:
                    loss, score = _sure(part, label), _sure(scores[name], label)
                    if loss * score > 0:  # more loss with a higher score, or less with a lower
                        found.append(Disagreement(length=length, group=name, label=label, loss=loss, score=score))
    return found


def _sure(block: Block, label: str) -> float:
    """The difference from `none`; 0 where its interval holds 0 or there is none."""
    interval = block.paired(label, NONE).interval
    if interval.low is None or interval.high is None or interval.low <= 0 <= interval.high:
        return 0.0
    return interval.value


def tells_apart(block: Block) -> bool:
    """Whether any configuration differs from `none`, Holm over all of them."""
    if NONE not in block.labels or len(block.labels) < 2:
        return False
    return any(row.adjusted_p is not None and row.adjusted_p <= ALPHA for row in compare_to(block, NONE))
