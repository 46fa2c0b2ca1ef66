"""LongPPL: perplexity over the tokens that need the long context (Fang et al., arXiv:2410.23771).

A token is key under an evaluator when the long context helps it by more than `alpha` nats and makes it likely:
nll_short - nll_long > alpha and nll_long < -beta. The reference is the package `longppl`: same key tokens and, without
a BOS, the same number. With one the package finds key tokens behind the BOS and then scores them without it, which
models that lean on it pay for (strand: 289.1 instead of 273.2); `without_bos` is that reading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.metrics.readings import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRule:
    """How key tokens are found: short contexts of trunc_len to trunc_len + stride - 1 tokens; thresholds in nats."""

    trunc_len: int = 4096
    stride: int = 1024
    alpha: float = 2.0
    beta: float = -2.0


def short_readings(length: int, rule: KeyRule) -> tuple[Reading, ...]:
    """Truncated windows over a document of `length` tokens; the first trunc_len tokens are never scored.

    As in the reference no BOS is put in front of a window.
    """
    readings = []
    for start in range(0, length - rule.trunc_len, rule.stride):
        low = start + rule.trunc_len
        readings.append(Reading(start=start, low=low, high=min(low + rule.stride, length)))
    return tuple(readings)


def without_bos(length: int) -> tuple[Reading, ...]:
    """How the package scores a document of `length` tokens that begins with a BOS: one pass that leaves it out."""
    return (Reading(start=1, low=2, high=length),)


def key_tokens(nll_long: NDArray[np.float32], nll_short: NDArray[np.float32], rule: KeyRule) -> NDArray[np.bool_]:
    """Which tokens are key, bool `[T]` (token 0 never is).

    Args:
        nll_long: float32 `[T - 1]`, the evaluator's losses with the whole context.
        nll_short: float32 `[T - 1]`, those with a short context; NaN where no short context was scored.
        rule: the thresholds.
    """
    long, short = nll_long.astype(np.float64), nll_short.astype(np.float64)
    return np.concatenate([[False], (short - long > rule.alpha) & (long < -rule.beta)])
