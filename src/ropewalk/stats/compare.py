"""Every configuration against one that was fixed beforehand, with Holm's correction."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.stats.blocks import Block
from ropewalk.stats.paired import Paired, holm


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One configuration against a reference, corrected for all the comparisons made beside it.

    Attributes:
        paired: ratio or difference of label to reference.
        adjusted_p: Holm over the comparisons of the same call; None where there is no test.
    """

    label: str
    reference: str
    paired: Paired
    adjusted_p: float | None


def compare_to(block: Block, reference: str, confidence: float = 0.95) -> tuple[Comparison, ...]:
    """Every other configuration of the block against a reference fixed beforehand (`none`, `truncate`).

    Raises:
        ValueError: the reference is not in the block.
    """
    if reference not in block.labels:
        raise ValueError(f"{reference!r} is not among the compared configurations {list(block.labels)!r}")
    labels = [label for label in block.labels if label != reference]
    pairs = [block.paired(label, reference, confidence) for label in labels]
    adjusted = iter(holm([pair.p for pair in pairs if pair.p is not None]))
    return tuple(
        Comparison(label=label, reference=reference, paired=pair, adjusted_p=None if pair.p is None else next(adjusted))
        for label, pair in zip(labels, pairs, strict=True)
    )
