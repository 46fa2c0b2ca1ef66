"""What a finding is, and how numbers read inside its sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ropewalk.stats.column import Column
from ropewalk.stats.intervals import Interval

Severity = Literal["note", "caution", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence that follows from rows.

    Attributes:
        kind: stable name, for scripts.
        sentence: plain text; labels in it come from the experiment file and must be escaped wherever they are shown.
        evidence: the numbers behind it, as JSON values, unrounded; never empty.
        severity: "warning" (a number would mislead without it), "caution", or "note".
    """

    kind: str
    sentence: str
    evidence: Mapping[str, Any]
    severity: Severity

    def __post_init__(self) -> None:
        if not self.evidence:
            raise ValueError(f"the finding {self.kind!r} has no evidence; a sentence needs the numbers behind it")


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def percent(ratio: float) -> str:
    """A ratio of perplexities as a change: 0.97 reads `-3.0 %`, 250 reads `x 250`."""
    return f"{100 * (ratio - 1):+.1f} %" if ratio < 100 else f"x {ratio:.3g}"


def spread(interval: Interval) -> str:
    """The ends of an interval of a ratio, as changes; says so where there is none."""
    if interval.low is None or interval.high is None:
        return "without an interval"
    return f"95 % interval {percent(interval.low)} to {percent(interval.high)}"


def spelled(interval: Interval, form: str) -> str:
    """A value with its interval, both in a format such as `.2g`: `12.3 [11.2, 13.5]`; without one, the value alone."""
    value = format(interval.value, form)
    if interval.low is None or interval.high is None:
        return value
    return f"{value} [{format(interval.low, form)}, {format(interval.high, form)}]"


def as_json(interval: Interval) -> dict[str, float | int | None]:
    """A 95 % interval as evidence; null also for what a float cannot hold (JSON has no infinity)."""
    ends = {"value": interval.value, "low": interval.low, "high": interval.high}
    kept = {name: end if end is not None and math.isfinite(end) else None for name, end in ends.items()}
    return kept | {"n": interval.n, "confidence": 0.95}


def shown(column: Column, value: float) -> str:
    """A value of the results table as a reader knows it: a share in per cent."""
    return share(value) if column.counts else f"{value:.4g}"


def share(value: float) -> str:
    """A share of what was asked, in whole per cent: 0.85 reads `85 %`."""
    return f"{100 * value:.0f} %"
