"""What a configuration costs where the model needed no help: at lengths inside its window."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ropewalk.stats.best import distinct
from ropewalk.stats.blocks import Block
from ropewalk.stats.column import Column
from ropewalk.stats.intervals import ALPHA, Interval
from ropewalk.stats.measured import NONE, Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The worst ratio of perplexities to `none` over the lengths inside the window.

    Attributes:
        ratio: paired over documents; 1 is no cost.
        length: where it is worst, tokens.
        column: what was compared.
        at_most: upper bound of the cost over all these lengths that holds for all configurations at once in 95 % of
            runs; infinite without an interval.
    """

    ratio: Interval
    length: int
    column: Column
    at_most: float


def short_lengths(run: Measured, target: int) -> tuple[int, ...]:
    """Measured lengths inside the window and shorter than the target."""
    return tuple(length for length in run.lengths if length <= run.shipped_window and length < target)


def short_costs(run: Measured, target: int) -> dict[str, Cost]:
    """The cost of every configuration that could be compared with `none` at every short length.

    `ratio` is the worst measured one. `at_most` is the largest of the lengths' one-sided bounds, at 5 % over the number
    of different configurations, because a bound is there to choose among them. It says nothing about other lengths.
    """
    lengths = short_lengths(run, target)
    for column in (each for each in run.columns.values() if each.is_ratio):
        blocks = [block for length in lengths if (block := run.block(column.name, length)) and NONE in block.labels]
        if blocks and len(blocks) == len(lengths):
            labels = [label for label in blocks[0].labels if all(label in block.labels for block in blocks)]
            bounds = [_Bound(block=b, same=frozenset(b.same(NONE)), comparisons=distinct(b) - 1) for b in blocks]
            return {label: _worst(bounds, label) for label in labels}
    return {}


def why_no_cost(run: Measured, target: int) -> str:
    """The sentence for a missing cost."""
    if not short_lengths(run, target):
        return (
            f"no length inside the window ({run.shipped_window} tokens) and below {target} was measured; "
            "add one to lengths"
        )
    return "none, or this configuration, has no value to compare at some length inside the window"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bound:
    """Upper bounds at one length: which configurations are the same measurement as `none`, and how many are not."""

    block: Block
    same: frozenset[str]
    comparisons: int

    def at_most(self, label: str) -> float:
        """Upper bound of the ratio to `none`; 1 for what is the same measurement."""
        if label == NONE or label in self.same:
            return 1.0
        high = self.block.paired(label, NONE, confidence=1 - 2 * ALPHA / self.comparisons).interval.high
        return math.inf if high is None else high


def _worst(bounds: list[_Bound], label: str) -> Cost:
    ratios = [(bound.block, bound.block.paired(label, NONE).interval) for bound in bounds]
    block, ratio = max(ratios, key=lambda pair: pair[1].value)
    at_most = max(bound.at_most(label) for bound in bounds)
    return Cost(ratio=ratio, length=block.lengths[0], column=block.column, at_most=at_most)
