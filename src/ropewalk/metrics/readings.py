"""Readings: which token losses of which forward pass a number is made of.

Token t of a document (t >= 1) has one loss in a pass that starts at `start < t`: the one predicted from tokens
start..t-1. Attention is causal, so a pass that goes on after t has the same loss there: readings that share rotation,
document and start are served by the longest pass among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The losses of tokens `low..high-1` of a document, in a pass that feeds tokens from `start` on.

    `bos` puts the tokenizer's BOS in place of token `start`, for passes that begin inside a document.
    """

    start: int
    low: int
    high: int
    bos: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.low < self.high:
            raise ValueError(f"a reading needs 0 <= start < low < high, got {self}")

    def take(self, nll: NDArray[np.float32]) -> NDArray[np.float64]:
        """Cut the losses out of `nll`, whose first entry is that of token start + 1; float64 `[high - low]`."""
        return nll[self.low - self.start - 1 : self.high - self.start - 1].astype(np.float64)


def fed_ids(ids: NDArray[np.int32], start: int, stop: int, bos_id: int | None) -> NDArray[np.int32]:
    """Tokens `start..stop-1` as a pass is fed them, int32 `[stop - start]`; `bos_id` replaces the first if given."""
    fed = ids[start:stop].copy()
    if bos_id is not None:
        fed[0] = bos_id
    return fed


def cut(reading: Reading, context: int) -> tuple[Reading, ...]:
    """The same losses where only the last `context` tokens are fed.

    More than context/2 tokens are scored in blocks of at most that many, each fed the `context` tokens that end with
    it: every scored token sees context/2 to context tokens, as it does in a server that drops old context.
    """
    block = max(1, context // 2)
    readings = []
    for low in range(reading.low, reading.high, block):
        high = min(low + block, reading.high)
        start = max(reading.start, high - context)
        readings.append(Reading(start=start, low=low, high=high, bos=start > 0))
    return tuple(readings)
