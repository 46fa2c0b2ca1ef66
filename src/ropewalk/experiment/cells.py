"""From raw outcomes to the value of a cell, its interval and its status; pure, and the only place that does so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ropewalk.experiment.plan import Cell
from ropewalk.metrics.metric import Sample
from ropewalk.stats.intervals import Interval, wilson
from ropewalk.stats.pooled import ratio_interval

OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The value of a cell; None where there is none, and then `reason` says why."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    status: str = OK
    reason: str | None = None


def measure(cell: Cell, samples: Sequence[Sample]) -> Measured:
    """The cell's value from its samples, and what its metric says of it."""
    remark, samples = None, by_document(samples)
    if cell.source.remark is not None:
        remark = cell.source.remark(cell.column, cell.options, cell.length, samples)
    counted = [each for each in samples if each.denominator > 0]
    if remark is not None and remark.status != OK:
        return failed(remark.status, remark.reason, len(counted))
    found = _pooled(cell, counted)
    if not math.isfinite(found.value):
        return failed("error", "the mean loss is too large for a number", len(counted))
    bounded = found.high is not None and math.isfinite(found.high)
    low, high = (found.low, found.high) if bounded else (None, None)
    reason = None if remark is None else remark.reason
    return Measured(value=found.value, ci_low=low, ci_high=high, n=len(counted), reason=reason)


def by_document(samples: Sequence[Sample]) -> list[Sample]:
    """Samples with documents as units: what their windows gave, summed; the last token is the furthest of any."""
    if not any(each.cluster for each in samples):
        return list(samples)
    found: dict[str, Sample] = {}
    for each in samples:
        name = each.cluster or each.unit
        known = found.get(name)
        last = [last for s in (known, each) if s is not None and (last := s.last_token) is not None]
        found[name] = replace(
            each,
            unit=name,
            numerator=each.numerator + (known.numerator if known else 0.0),
            denominator=each.denominator + (known.denominator if known else 0.0),
            last_token=max(last, default=None),
        )
    return list(found.values())


def _pooled(cell: Cell, samples: Sequence[Sample]) -> Interval:
    """The pooled value with its interval, in the unit of the results table."""
    if cell.column.pooling == "share":
        return wilson(round(sum(each.numerator for each in samples)), len(samples))
    numerators, denominators = ([getattr(each, name) for each in samples] for name in ("numerator", "denominator"))
    found = ratio_interval(np.array(numerators), np.array(denominators))
    return found.exp() if cell.column.pooling == "nll" else found


def failed(status: str, reason: str, n: int = 0) -> Measured:
    return Measured(value=None, ci_low=None, ci_high=None, n=n, status=status, reason=reason)


def row(cell: Cell, measured: Measured) -> Mapping[str, Any]:
    """A cell as the store keeps it, JSON values still as values."""
    return {
        "label": cell.label,
        "method": cell.method,
        "asked": dict(cell.asked),
        "resolved": dict(cell.resolved),
        "length": cell.length,
        "metric": cell.metric,
        "fingerprint": cell.fingerprint,
        "value": measured.value,
        "ci_low": measured.ci_low,
        "ci_high": measured.ci_high,
        "n": measured.n,
        "status": measured.status,
        "reason": measured.reason,
    }
