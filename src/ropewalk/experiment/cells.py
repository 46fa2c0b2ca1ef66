"""From raw outcomes to the value of a cell, its interval and its status; pure, and the only place that does so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.experiment.plan import Cell
from ropewalk.metrics.readings import Reading
from ropewalk.stats import ratio_interval, wilson

OK = "ok"

REACH = 0.75
"""Part of a length that key tokens must reach into for its LongPPL to go without a remark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The value of a cell; None where there is none, and then `reason` says why."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    status: str = OK
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """What one document or one trial gives to a cell: value = sum of numerators / sum of denominators.

    `depth` is a trial's; `last_key` the document's last key token that counts.
    """

    unit: str
    numerator: float
    denominator: float
    depth: float | None = None
    last_key: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DocumentFacts:
    """utf8_bytes int32 `[N]`: bytes of text each token covers, None if the tokenizer gives no offsets;
    key bool `[N]`: key tokens, None if LongPPL was not asked for."""

    id: str
    utf8_bytes: NDArray[np.int32] | None
    key: NDArray[np.bool_] | None


Losses = Callable[[Reading], NDArray[np.float32]]
"""Gives the losses of one document's pass that serves a reading: float32, first entry that of token start + 1."""


def sample(cell: Cell, document: DocumentFacts, losses: Losses) -> Sample:
    """One document's numerator (nats, or bits) and denominator (tokens, or bytes) for a cell that is made of losses."""
    nats = tokens = 0.0
    last_key = None
    for reading in cell.readings:
        nll = reading.take(losses(reading))
        if cell.metric == "longppl":
            assert document.key is not None
            key = np.flatnonzero(document.key[reading.low : reading.high])
            nll = nll[key]
            last_key = reading.low + int(key[-1]) if key.size else last_key
        nats += float(nll.sum())
        tokens += len(nll)
    if cell.metric == "bits_per_byte":
        assert document.utf8_bytes is not None
        covered = sum(int(document.utf8_bytes[r.low : r.high].sum()) for r in cell.readings)
        return Sample(unit=document.id, numerator=nats / math.log(2), denominator=float(covered))
    return Sample(unit=document.id, numerator=nats, denominator=tokens, last_key=last_key)


def measure(cell: Cell, samples: Sequence[Sample], min_key_tokens: int) -> Measured:
    """The cell's value from its samples."""
    if cell.metric == "passkey":
        found = wilson(round(sum(s.numerator for s in samples)), len(samples))
        return Measured(value=found.value, ci_low=found.low, ci_high=found.high, n=len(samples))
    if cell.metric == "longppl":
        samples = [s for s in samples if s.denominator > 0]
        count = round(sum(s.denominator for s in samples))
        if count < min_key_tokens:
            reason = f"{count} key tokens in {len(samples)} documents, fewer than {min_key_tokens}"
            return Measured(
                value=None, ci_low=None, ci_high=None, n=len(samples), status="too_few_key_tokens", reason=reason
            )
    found = ratio_interval(np.array([s.numerator for s in samples]), np.array([s.denominator for s in samples]))
    if cell.metric != "bits_per_byte":
        found = found.exp()
    if not math.isfinite(found.value):
        return failed("error", "the mean loss is too large for a number", len(samples))
    bounded = found.high is not None and math.isfinite(found.high)
    low, high = (found.low, found.high) if bounded else (None, None)
    return Measured(value=found.value, ci_low=low, ci_high=high, n=len(samples), reason=_reach(cell, samples))


def _reach(cell: Cell, samples: Sequence[Sample]) -> str | None:
    """Says of a LongPPL that its key tokens end well before the length: the evaluator saw no further."""
    last = max((s.last_key for s in samples if s.last_key is not None), default=None)
    if last is None or last >= REACH * cell.length:
        return None
    return f"the last key token is token {last} of {cell.length}: nothing beyond it is measured here"


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
