"""What one parameter does: paired differences between configurations that differ in it alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from ropewalk.stats.blocks import Block
from ropewalk.stats.paired import Paired, holm


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One parameter moved from one value to the next, everything else fixed.

    Attributes:
        parameter: its name.
        before, after: the two neighbouring values, as JSON.
        fixed: the other parameters, as JSON.
        labels: configuration with `before`, configuration with `after`.
        paired: `after` against `before` on the same units: a ratio of perplexities or a difference of shares.
        adjusted_p: Holm over all steps of all methods; None where there is no test.
    """

    parameter: str
    before: str
    after: str
    fixed: str
    labels: tuple[str, str]
    paired: Paired
    adjusted_p: float | None


def sensitivity(block: Block, methods: Mapping[str, Mapping[str, Mapping[str, object]]]) -> dict[str, tuple[Step, ...]]:
    """Every step along every parameter of each method's grid, from each value to the next larger one; methods without
    a step are left out.

    Args:
        block: outcomes at one length.
        methods: by method all parameters of each configuration, those left at their default included (an omitted one
            counts as a value of its own, named "default"); labels that the block lacks are skipped.
    """
    found = {method: _steps(block, parameters) for method, parameters in methods.items()}
    every = [step.paired.p for steps in found.values() for step in steps]
    adjusted = iter(holm([p for p in every if p is not None]))
    return {
        method: tuple(replace(s, adjusted_p=None if s.paired.p is None else next(adjusted)) for s in steps)
        for method, steps in found.items()
        if steps
    }


def _steps(block: Block, parameters: Mapping[str, Mapping[str, object]]) -> list[Step]:
    present = {label: dict(values) for label, values in parameters.items() if label in block.labels}
    names = sorted({name for values in present.values() for name in values})
    return [step for name in names for step in _along(block, present, name)]


def _along(block: Block, present: Mapping[str, Mapping[str, object]], name: str) -> list[Step]:
    """Steps along one parameter, within each combination of the others."""
    lines: dict[str, list[tuple[object, str]]] = {}
    for label, values in present.items():
        others = json.dumps({key: value for key, value in values.items() if key != name}, sort_keys=True)
        lines.setdefault(others, []).append((values.get(name, "default"), label))
    return [
        Step(
            parameter=name,
            before=json.dumps(before),
            after=json.dumps(after),
            fixed=others,
            labels=(label, next_label),
            paired=block.paired(next_label, label),
            adjusted_p=None,
        )
        for others, line in lines.items()
        for (before, label), (after, next_label) in pairwise(sorted(line, key=lambda entry: _order(entry[0])))
    ]


def _order(value: object) -> tuple[bool, float, str]:
    """Numbers by size, anything else after them by its JSON."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return not number, float(value) if isinstance(value, int | float) and number else 0.0, json.dumps(value)
