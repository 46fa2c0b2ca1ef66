"""Which cells of a plan are asked at all, where that depends on what others measured; pure.

Who is asked is computed again from stored outcomes each time, so a run that goes on, its reports and `verify` agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ropewalk.experiment.plan import Cell, Plan, PromptSet
from ropewalk.metrics.metric import Prompts, Sample
from ropewalk.stats.best import best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.measured import NONE

Outcome = Callable[[Cell], Any]
"""A cell to its samples, a failure, or None while they are not all measured."""


def waits(cell: Cell) -> bool:
    """Whether a cell is asked only of the best set of another column, and of `none`."""
    return isinstance(cell.needs, Prompts) and cell.needs.best_by is not None


def selected(plan: Plan, outcome: Outcome) -> Plan:
    """The plan without the cells that wait and are not, or not yet, asked: those of the best set follow when all cells
    that it is made of are measured or have failed."""
    if not any(waits(cell) for cell in plan.cells):
        return plan
    judged: dict[tuple[str, int], list[Cell]] = {}
    for cell in plan.cells:
        judged.setdefault((cell.metric, cell.length), []).append(cell)
    best: dict[tuple[str, int], frozenset[str]] = {}

    def asked(cell: Cell) -> bool:
        if not isinstance(cell.needs, Prompts) or cell.needs.best_by is None:
            return True
        key = (cell.needs.best_by, cell.length)
        if key not in best:
            best[key] = _best(judged.get(key, []), outcome)
        return cell.label in best[key]

    cells = tuple(cell for cell in plan.cells if asked(cell))
    kept = {_set(cell) for cell in cells if isinstance(cell.needs, Prompts)}
    return replace(plan, cells=cells, prompts=tuple(each for each in plan.prompts if each in kept))


def _set(cell: Cell) -> PromptSet:
    assert isinstance(cell.needs, Prompts)
    return PromptSet(fingerprint=cell.fingerprint, metric=cell.source.name, length=cell.length, prompts=cell.needs)


def _best(cells: Sequence[Cell], outcome: Outcome) -> frozenset[str]:
    """`none`, and the labels of the best set; `none` alone while a cell is not measured."""
    found = {cell.label: outcome(cell) for cell in cells}
    known = {label: own for label, own in found.items() if isinstance(own, list) and own}
    if not known or None in found.values():
        return frozenset({NONE})
    return frozenset({NONE, *best_set(_block(cells[0], known)).members})


def _block(cell: Cell, samples: dict[str, list[Sample]]) -> Block:
    """Outcomes of the configurations that have all units."""
    units = tuple(each.unit for each in next(iter(samples.values())))
    whole = {label: own for label, own in samples.items() if tuple(each.unit for each in own) == units}
    return Block(
        column=cell.column,
        lengths=(cell.length,),
        labels=tuple(whole),
        units=units,
        numerators_CN=np.array([[each.numerator for each in own] for own in whole.values()]),
        denominators_CN=np.array([[each.denominator for each in own] for own in whole.values()]),
    )
