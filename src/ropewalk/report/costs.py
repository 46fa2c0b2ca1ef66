"""What a configuration costs where the model needed no help: at lengths inside its window."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.stats.blocks import Block
from ropewalk.stats.intervals import Interval
from ropewalk.stats.measured import NONE, Measured

RATIOS = ("perplexity", "tail", "longppl")
"""Metrics in which a cost can be a ratio of perplexities, the first that was measured counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The worst ratio of perplexities to `none` over the lengths inside the window.

    Attributes:
        ratio: paired over documents; 1 is no cost.
        length: where it is worst, tokens.
        metric: what was compared.
    """

    ratio: Interval
    length: int
    metric: str


def short_lengths(run: Measured, target: int) -> tuple[int, ...]:
    """Measured lengths inside the window and shorter than the target."""
    return tuple(length for length in run.lengths if length <= run.shipped_window and length < target)


def short_costs(run: Measured, target: int) -> dict[str, Cost]:
    """The cost of every configuration that could be compared with `none` at every short length.

    Judged on the values: the worst of the measured lengths, not a bound for all lengths.
    """
    lengths = short_lengths(run, target)
    for metric in RATIOS:
        blocks = [block for length in lengths if (block := run.block(metric, length)) and NONE in block.labels]
        if blocks and len(blocks) == len(lengths):
            labels = [label for label in blocks[0].labels if all(label in block.labels for block in blocks)]
            return {label: _worst(blocks, label) for label in labels}
    return {}


def why_no_cost(run: Measured, target: int) -> str:
    """The sentence for a missing cost."""
    if not short_lengths(run, target):
        return (
            f"no length inside the window ({run.shipped_window} tokens) and below {target} was measured; "
            "add one to lengths"
        )
    return "none, or this configuration, has no value to compare at some length inside the window"


def _worst(blocks: list[Block], label: str) -> Cost:
    costs = [
        Cost(ratio=block.paired(label, NONE).interval, length=block.lengths[0], metric=block.metric) for block in blocks
    ]
    return max(costs, key=lambda cost: cost.ratio.value)
