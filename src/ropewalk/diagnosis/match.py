"""Which hypothesis a server's losses come from, and how sure that is. Pure.

The unit is a block of positions: neighbouring tokens err together, blocks of BLOCK tokens are taken as independent of
each other. That is an assumption about one text, which holds better the longer the blocks are, and the interval of a
margin stands on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExportError
from ropewalk.export.check import ENGINE_RMS
from ropewalk.stats.intervals import Interval
from ropewalk.stats.paired import paired_t

BLOCK, LEAST_BLOCKS = 16, 8
CONFIDENCE = 0.99

RESOLUTION = 1e-4
"""Nats per token that two float32 engines may be apart: closer hypotheses are not told apart."""

ROUNDED = 0.05
"""Root mean square of what bfloat16 rounds, nats/token (0.031 was seen), with room."""

EXPLAINS = 0.5
"""A fault is only named where it leaves at most this part of the difference from what was asked for: roundings of
quantised weights may be a little nearer to some fault by chance."""

GROWTH = 3.0
"""How many times larger the differences of late positions are than those of early ones where a rotation is at fault
that is none of the library: roundings do not grow so."""

EARLY = 16
"""Tokens, over which most rotations differ little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """How far a hypothesis is from what the server gave.

    Attributes:
        rms: root mean square of the tokens' differences, nats.
        mean: mean absolute difference, nats/token, which is what hypotheses are ranked by.
        margin: mean minus that of the best, with its interval over blocks.
    """

    rms: float
    mean: float
    margin: Interval

    @property
    def told(self) -> bool:
        """It is farther than the best, beyond chance and rounding."""
        return self.margin.value > RESOLUTION and self.margin.low is not None and self.margin.low > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What fits.

    Attributes:
        found: index of the hypothesis that is named, or None.
        nearest: index of the one that is nearest.
        apart: of every hypothesis; None where it has no loss for a token that the server gave one for.
        tied: indices that cannot be told from the nearest, itself included.
        early, late: mean absolute difference of the nearest, over the first EARLY tokens and over the last half.
        tokens: compared.
    """

    found: int | None
    nearest: int
    apart: tuple[Apart | None, ...]
    tied: tuple[int, ...]
    early: float
    late: float
    tokens: int

    @property
    def grows(self) -> bool:
        """The differences grow with position beyond what roundings do."""
        return self.late > RESOLUTION and self.late > GROWTH * self.early


def match(server: NDArray[np.float64], losses: Sequence[NDArray[np.float64]], most: float = ENGINE_RMS) -> Match:
    """Compare a server's losses `[T - 1]` with those of every hypothesis; the first is what was asked for.

    Args:
        server: nats.
        losses: nats, of each hypothesis.
        most: root mean square that a hypothesis may be off, nats/token; beyond ENGINE_RMS it also has to be told from
            every other.

    Raises:
        ExportError: fewer tokens than LEAST_BLOCKS blocks to compare.
    """
    known = ~np.isnan(server)
    known[0] = False  # a hypothesis without BOS has no loss for it
    usable = [bool(np.isfinite(each[known]).all()) for each in losses]
    tokens = int(known.sum())
    if tokens < LEAST_BLOCKS * BLOCK or not any(usable):
        raise ExportError(
            f"the server gave {tokens} log-probabilities that can be compared, and {LEAST_BLOCKS * BLOCK} are needed; "
            "give a longer text or --length."
        )
    differences = [np.abs(server[known] - each[known]) if ok else None for each, ok in zip(losses, usable, strict=True)]
    means = [math.inf if each is None else float(each.mean()) for each in differences]
    best = int(np.argmin(means))
    nearest = differences[best]
    assert nearest is not None
    apart = tuple(None if each is None else _apart(each, nearest) for each in differences)
    tied = tuple(index for index, each in enumerate(apart) if each is not None and not each.told)
    chosen = 0 if 0 in tied or (usable[0] and means[best] > EXPLAINS * means[0]) else best
    early, late = float(nearest[:EARLY].mean()), float(nearest[len(nearest) // 2 :].mean())
    limit = most if tied == (chosen,) else min(most, ENGINE_RMS)
    return Match(
        found=chosen if _fits(apart[chosen], limit, early, late) else None,
        nearest=best,
        apart=apart,
        tied=tied,
        early=early,
        late=late,
        tokens=tokens,
    )


def _fits(apart: Apart | None, limit: float, early: float, late: float) -> bool:
    """Its differences are as small as an engine's roundings, and, where larger than bfloat16's, do not grow."""
    return apart is not None and apart.rms <= limit and (apart.rms <= ROUNDED or late <= GROWTH * early)


def _apart(difference: NDArray[np.float64], nearest: NDArray[np.float64]) -> Apart:
    """How far one server is from a hypothesis, and beyond the nearest: absolute differences `[T]`, nats per token."""
    return Apart(
        rms=float(np.sqrt(np.mean(difference**2))),
        mean=float(difference.mean()),
        margin=paired_t(blocks(difference), blocks(nearest), CONFIDENCE).interval,
    )


def blocks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of as many even blocks of at least BLOCK of the values `[T]` as there are, `[B]`, B up to 64."""
    count = min(64, len(values) // BLOCK)
    return np.array([part.mean() for part in np.array_split(values, count)])
