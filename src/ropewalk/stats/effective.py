"""Up to which length a configuration works, and which configurations nothing else dominates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ropewalk.stats.blocks import Block
from ropewalk.stats.intervals import Interval
from ropewalk.stats.measured import NONE, TRUNCATE

TOLERANCE = 0.1
"""Tail perplexity may exceed the reference's by this share."""
THRESHOLD = 0.8
"""Share that must be found; YaRN's summary uses the same."""
Stop = Literal["tail", "not shown", "found", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveLength:
    """The longest measured length up to which everything holds, and what ended it.

    Attributes:
        length: tokens; None if not even the shortest measured length holds.
        stopped_at: the first measured length that does not hold; None if all do ("at least `length`").
        stopped_by: which condition failed there: the tail is too high, or it is not shown to be low enough, or too
            little is found, or a value was not measured.
        tolerance: allowed excess of tail perplexity, as a share.
        threshold: required share; None if nothing says what is found and only the tail decides.
    """

    length: int | None
    stopped_at: int | None
    stopped_by: Stop | None
    tolerance: float
    threshold: float | None


def against_reference(tails: Mapping[int, Block], label: str, window: int) -> dict[int, Interval]:
    """Tail perplexity over that of what one could do without extending, on the same tokens, by length: over `none`
    inside the window, beyond it over `truncate`, the unscaled model that is fed the last half window.

    A reference of another length would measure other tokens: a text whose end is easy would look long-sighted. Lengths
    at which either was not measured are left out.
    """
    found: dict[int, Interval] = {}
    for length, block in tails.items():
        reference = NONE if length <= window else TRUNCATE
        if label == reference and label in block.labels:
            found[length] = Interval(value=1.0, low=1.0, high=1.0, n=len(block.units))
        elif label in block.labels and reference in block.labels:
            found[length] = block.paired(label, reference).interval
    return found


def effective_length(
    tail: Mapping[int, Interval | None],
    retrieval: Mapping[int, float] | None,
    *,
    tolerance: float = TOLERANCE,
    threshold: float = THRESHOLD,
) -> EffectiveLength:
    """The longest L such that at L and at every shorter measured length the whole interval of the tail's ratio lies
    within `1 + tolerance`, and `retrieval >= threshold`.

    As far as the tail goes, a length too far is claimed in at most 2.5 % of runs: every length up to it must have
    passed, so there is nothing to correct. Retrieval is judged on the share found, not on its interval.

    Args:
        tail: ratio of tail perplexity to the reference by length in tokens; None or absent where it was not measured.
        retrieval: share found by length; None if the run has none at all.
        tolerance: allowed excess as a share, >= 0.
        threshold: required share in [0, 1].

    Raises:
        ValueError: tolerance < 0, or threshold outside [0, 1].
    """
    if not tolerance >= 0 or not 0 <= threshold <= 1:
        raise ValueError(f"tolerance={tolerance!r} must be >= 0, threshold={threshold!r} a share in [0, 1]")
    reached: int | None = None
    for length in sorted({*tail, *(retrieval or ())}):
        found = math.inf if retrieval is None else retrieval.get(length, math.nan)
        stop = _stop(tail.get(length), found, 1 + tolerance, threshold)
        if stop is not None:
            return EffectiveLength(
                length=reached,
                stopped_at=length,
                stopped_by=stop,
                tolerance=tolerance,
                threshold=None if retrieval is None else threshold,
            )
        reached = length
    return EffectiveLength(
        length=reached,
        stopped_at=None,
        stopped_by=None,
        tolerance=tolerance,
        threshold=None if retrieval is None else threshold,
    )


def _stop(ratio: Interval | None, found: float, most: float, threshold: float) -> Stop | None:
    """What does not hold at a length; None if all does."""
    if ratio is None or math.isnan(found):
        return "missing"
    if ratio.value > most:
        return "tail"
    if ratio.high is None or ratio.high > most:
        return "not shown"
    return "found" if found < threshold else None


def pareto_front(costs: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Indices of the points that no other point beats in one respect without losing in the other, cheapest first.

    Lower is better in both (cost at short lengths, tail perplexity at the target). Points equal in both respects are
    all on the front; points with a value that is not a number are never on it.

    Raises:
        ValueError: lists of different lengths.
    """
    points = list(zip(costs, losses, strict=True))
    order = sorted(
        (i for i, (c, q) in enumerate(points) if not (math.isnan(c) or math.isnan(q))), key=points.__getitem__
    )
    front: list[int] = []
    for index in order:
        if not front or points[index][1] < points[front[-1]][1] or points[index] == points[front[-1]]:
            front.append(index)
    return front
