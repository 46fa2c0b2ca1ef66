"""Perplexity at a length, its tail, the baseline that drops the context, and the loss by position."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ropewalk.metrics.metric import Documents, Metric, OfDocument, Options, Remark, Sample
from ropewalk.metrics.readings import Reading
from ropewalk.stats.column import Column

TAIL_TOKENS = 512

PERPLEXITY = Column(name="perplexity", title="perplexity", pooling="nll")
TAIL = Column(name="tail", title="tail perplexity", pooling="nll", at_length=True)
BITS = Column(name="bits_per_byte", title="bits per byte", pooling="bits")


class Perplexity(Options):
    """Perplexity of the first tokens of every document, of the last of them alone (tail), and bits per byte."""

    stride: Annotated[int, Field(ge=1)] | None = None
    """null for one pass over the first L tokens, else sliding windows of L tokens, advanced by so many."""


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


def asks(column: Column, options: Perplexity, length: int, longest: int) -> Documents:
    """The readings of a column at a length."""
    if column == TAIL:
        return Documents(readings=tail(length))
    return Documents(readings=whole(length) if options.stride is None else sliding(length, longest, options.stride))


def sample(column: Column, options: Perplexity, readings: Sequence[Reading], unit: OfDocument) -> Sample | Remark:
    """Summed nats over tokens, or summed bits over bytes."""
    nll = [reading.take(unit.losses(reading)) for reading in readings]
    nats, tokens = float(sum(float(part.sum()) for part in nll)), sum(len(part) for part in nll)
    if column != BITS:
        return Sample(unit=unit.id, numerator=nats, denominator=float(tokens))
    if "utf8_bytes" not in unit.arrays:
        return Remark(status="error", reason="the tokenizer gives no character offsets, so bytes cannot be counted")
    covered = sum(int(unit.arrays["utf8_bytes"][reading.low : reading.high].sum()) for reading in readings)
    return Sample(unit=unit.id, numerator=nats / math.log(2), denominator=float(covered))


def check(options: Perplexity, shortest: int) -> str | None:
    """Windows have to overlap."""
    if options.stride is None or options.stride < shortest:
        return None
    return (
        f"metrics.perplexity.stride={options.stride} must be smaller than the shortest length {shortest}, or a "
        "window would score tokens without context; lower stride or drop that length"
    )


METRIC = Metric(
    name="perplexity",
    options=Perplexity,
    columns=(PERPLEXITY, TAIL, BITS),
    asks=asks,
    sample=sample,
    check=check,
)
