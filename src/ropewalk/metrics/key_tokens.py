"""Which tokens of a document are key: those that the long context predicts better (arXiv:2410.23771)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus.spans import merge_adjacent
from ropewalk.metrics.readings import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRule:
    """How key tokens are found: short contexts of trunc_len to trunc_len + stride - 1 tokens; thresholds in nats."""

    trunc_len: int = 4096
    stride: int = 1024
    alpha: float = 2.0
    beta: float = -2.0

    @classmethod
    def of(cls, options: Any) -> KeyRule:
        """The rule that a metric's options name."""
        return cls(trunc_len=options.trunc_len, stride=options.stride, alpha=options.alpha, beta=options.beta)


def short_readings(length: int, rule: KeyRule) -> tuple[Reading, ...]:
    """Truncated windows over a document of `length` tokens; the first trunc_len tokens are never scored.

    As in the reference no BOS is put in front of a window.
    """
    readings = []
    for start in range(0, length - rule.trunc_len, rule.stride):
        low = start + rule.trunc_len
        readings.append(Reading(start=start, low=low, high=min(low + rule.stride, length)))
    return tuple(readings)


def key_tokens(nll_long: NDArray[np.float32], nll_short: NDArray[np.float32], rule: KeyRule) -> NDArray[np.bool_]:
    """Which tokens are key, bool `[T]` (token 0 never is).

    Args:
        nll_long: float32 `[T - 1]`, the evaluator's losses with the whole context.
        nll_short: float32 `[T - 1]`, those with a short context; NaN where no short context was scored.
        rule: the thresholds.
    """
    long, short = nll_long.astype(np.float64), nll_short.astype(np.float64)
    return np.concatenate([[False], (short - long > rule.alpha) & (long < -rule.beta)])


def evaluator_file(document: int) -> str:
    """Where a run keeps what `find` returns beside the spans."""
    return f"evaluator/{document}.safetensors"


def spans_of(arrays: Mapping[str, NDArray[Any]], rule: KeyRule) -> tuple[tuple[int, int], ...]:
    """Key spans in characters out of what `find` returns with them: the evaluator's losses and
    offsets, `[T - 1]` each."""
    key = key_tokens(arrays["nll_long"], arrays["nll_short"], rule)
    return merge_adjacent(arrays["starts"][key], arrays["ends"][key])
