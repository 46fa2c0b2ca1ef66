"""Perplexity at a length, its tail, the baseline that drops the context, and the loss by position."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from ropewalk.metrics.readings import Reading

TAIL_TOKENS = 512


def whole(length: int) -> tuple[Reading, ...]:
    """One pass over the first `length` tokens; all but the first are scored."""
    return (Reading(start=0, low=1, high=length),)


def tail_tokens(length: int) -> int:
    """How many of the last positions the tail at `length` covers: min(512, length // 4), at least 1."""
    return max(1, min(TAIL_TOKENS, length // 4))


def tail(length: int) -> tuple[Reading, ...]:
    """The last positions of the pass over `length` tokens: what the model is like at that distance."""
    return (Reading(start=0, low=length - tail_tokens(length), high=length),)


def sliding(length: int, document_length: int, stride: int) -> tuple[Reading, ...]:
    """Windows of `length` advanced by `stride` (Press et al., arXiv:2108.12409; YaRN's GovReport runs use 256).

    The first window scores all its tokens, each later one only those that no window scored before.
    """
    readings = [Reading(start=0, low=1, high=min(length, document_length))]
    while (done := readings[-1].high) < document_length:
        high = min(done + stride, document_length)
        readings.append(Reading(start=high - length, low=done, high=high, bos=high > length))
    return tuple(readings)


def truncated(length: int, window: int) -> tuple[Reading, ...]:
    """The tail at `length` of a model that is fed only the last window/2 tokens.

    Where the tail is longer than window/4 (windows under 2048 tokens) it is scored in blocks of at most window/4,
    each fed the window/2 tokens that end with it: every scored token sees window/4 to window/2 tokens, as it does
    in a server that drops old context.
    """
    fed = max(2, window // 2)
    block = max(1, fed // 2)
    low = length - tail_tokens(length)
    readings = []
    for start in range(low, length, block):
        high = min(start + block, length)
        first = max(0, high - fed)
        readings.append(Reading(start=first, low=start, high=high, bos=first > 0))
    return tuple(readings)


def position_blocks(length: int, per_octave: int = 4) -> list[tuple[int, int]]:
    """Log-spaced blocks `(low, high)` of scored tokens 1..length-1, for the loss-by-position curve."""
    octaves = np.log2(length)
    edges = np.unique(np.round(2 ** np.arange(0, octaves + 1 / per_octave, 1 / per_octave)).astype(int))
    edges = np.concatenate([edges[edges < length], [length]])
    return [(int(low), int(high)) for low, high in itertools.pairwise(edges)]


def loss_by_position(nll: NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """`(low, high, mean nll)` per block of a pass from token 0; nll float32 `[T - 1]`, nats."""
    values = nll.astype(np.float64)
    return [(low, high, float(values[low - 1 : high - 1].mean())) for low, high in position_blocks(len(nll) + 1)]
