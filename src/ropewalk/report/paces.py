"""How fast passes went through the model in this run, from the times at which they were finished; pure.

A worker gives its batches one after another, and all rows of a batch carry one time: between two of these times the
later batch was computed, and the earlier one stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

LEAST = 3
"""Batches of each from which on two paces are compared: what else a machine does shows in single ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Passes that went through the model beside each other: rows of some tokens each, and how many seconds it took."""

    fingerprints: frozenset[str]
    length: int
    rows: int
    seconds: float

    @property
    def pace(self) -> float:
        """Tokens/s."""
        return self.rows * self.length / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The batches of a scheme, and those of plain attention beside which they stand: of one length, and of as many
    rows as there are of both, or nearly."""

    own: tuple[Batch, ...]
    plain: tuple[Batch, ...]

    @property
    def pace(self) -> float:
        """Tokens/s, the median over batches."""
        return median(batch.pace for batch in self.own)

    @property
    def ratio(self) -> float | None:
        """Of plain attention's; None where either has too few batches."""
        few = min(len(self.own), len(self.plain)) < LEAST
        return None if few else self.pace / median(batch.pace for batch in self.plain)


def batches(passes: Iterable[Mapping[str, Any]], answered: Iterable[tuple[Any, ...]]) -> tuple[Batch, ...]:
    """Batches whose time is known.

    A worker's first batch has nothing before it and is left out, and so is one with a failure, which may have been
    tried again and again, and one whose time was stored to the second.

    Args:
        passes: rows of the table passes.
        answered: worker and time of batches of answers, which lie between.
    """
    rows: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for row in passes:
        if "worker" in row:
            rows.setdefault((row["worker"], row["finished_at"]), []).append(row)
    moments = pairwise(sorted({*rows, *answered}))
    found = (_batch(before, at, rows[at]) for before, at in moments if at in rows and at[0] == before[0])
    return tuple(batch for batch in found if batch is not None)


def _batch(before: tuple[Any, ...], at: tuple[Any, ...], rows: Sequence[Mapping[str, Any]]) -> Batch | None:
    tokens = {row["stop"] - row["start"] for row in rows}
    if not ("." in before[1] and "." in at[1] and len(tokens) == 1 and all(row["status"] == "ok" for row in rows)):
        return None
    return Batch(
        fingerprints=frozenset(row["fingerprint"] for row in rows),
        length=tokens.pop(),
        rows=len(rows),
        seconds=(datetime.fromisoformat(at[1]) - datetime.fromisoformat(before[1])).total_seconds(),
    )


def price(found: Sequence[Batch], fingerprint: str, only_rotate: Collection[str], length: int) -> Price | None:
    """A scheme beside all that only rotate, on the longest passes that both have; None where none has the length."""
    found = [batch for batch in found if batch.length >= length]
    own = [batch for batch in found if fingerprint in batch.fingerprints]
    plain = [batch for batch in found if batch.fingerprints <= set(only_rotate)]
    lengths = {batch.length for batch in own} & {batch.length for batch in plain}
    if not lengths:
        return None
    own, plain = ([batch for batch in each if batch.length == max(lengths)] for each in (own, plain))
    pairs = ((mine.rows, theirs.rows) for mine in own for theirs in plain)
    here, there = min(pairs, key=lambda pair: (abs(pair[0] - pair[1]), -pair[0], -pair[1]))
    return Price(
        own=tuple(batch for batch in own if batch.rows == here),
        plain=tuple(batch for batch in plain if batch.rows == there),
    )
