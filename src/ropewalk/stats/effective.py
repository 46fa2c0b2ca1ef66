"""Up to which length a configuration works, and which configurations nothing else dominates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

TOLERANCE = 0.1
"""Tail perplexity may exceed the unscaled in-window value by this share."""
THRESHOLD = 0.8
"""Share of passkeys that must be found; YaRN's summary uses the same (PROTOCOLS.md, Passkey)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveLength:
    """The longest measured length up to which everything holds, and what ended it.

    Attributes:
        length: tokens; None if not even the shortest measured length holds.
        stopped_at: the first measured length that does not hold; None if all do ("at least `length`").
        stopped_by: which condition failed there, or "missing" if a value was not measured.
        tolerance: allowed excess of tail perplexity, as a share.
        threshold: required share of passkeys; None if passkey was not measured and only the tail decides.
    """

    length: int | None
    stopped_at: int | None
    stopped_by: Literal["tail", "passkey", "missing"] | None
    tolerance: float
    threshold: float | None


def reference_tails(tail_of_none: Mapping[int, float], window: int) -> dict[int, float] | None:
    """What tail perplexity is held against at each length: the unscaled model's at that length, and beyond the window
    (or where it has none) the one at the longest measured length inside; None without any inside.

    Inside the window the same tokens are compared; a reference of another length would measure those tokens instead.
    """
    inside = {length: value for length, value in tail_of_none.items() if length <= window and math.isfinite(value)}
    if not inside:
        return None
    return dict.fromkeys(tail_of_none, inside[max(inside)]) | inside


def effective_length(
    tail: Mapping[int, float],
    passkey: Mapping[int, float] | None,
    references: Mapping[int, float],
    *,
    tolerance: float = TOLERANCE,
    threshold: float = THRESHOLD,
) -> EffectiveLength:
    """The longest L such that at L and at every shorter measured length `tail <= reference * (1 + tolerance)` and
    `passkey >= threshold`.

    Judged on the values, not on their intervals: it is a summary of what was measured, not a test.

    Args:
        tail: tail perplexity by length in tokens; NaN where a cell has no value.
        passkey: share of passkeys found by length; None if the run has no passkey at all.
        references: from `reference_tails`; a length that it lacks counts as missing.
        tolerance: allowed excess as a share, >= 0.
        threshold: required share in [0, 1].

    Raises:
        ValueError: a reference that is not a positive number, tolerance < 0, or threshold outside [0, 1].
    """
    wrong = [x for x in references.values() if not (math.isfinite(x) and x > 0)]
    if wrong or not tolerance >= 0 or not 0 <= threshold <= 1:
        raise ValueError(
            f"references={dict(references)!r} must be perplexities > 0, tolerance={tolerance!r} >= 0, "
            f"threshold={threshold!r} a share in [0, 1]"
        )
    reached: int | None = None
    stopped_at: int | None = None
    stopped_by: Literal["tail", "passkey", "missing"] | None = None
    for length in sorted({*tail, *(passkey or ())}):
        found = math.inf if passkey is None else passkey.get(length, math.nan)
        excess = tail.get(length, math.nan) / references.get(length, math.nan)
        if math.isnan(excess) or math.isnan(found):
            stopped_by = "missing"
        elif excess > 1 + tolerance:
            stopped_by = "tail"
        elif found < threshold:
            stopped_by = "passkey"
        if stopped_by is not None:
            stopped_at = length
            break
        reached = length
    return EffectiveLength(
        length=reached,
        stopped_at=stopped_at,
        stopped_by=stopped_by,
        tolerance=tolerance,
        threshold=None if passkey is None else threshold,
    )


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
