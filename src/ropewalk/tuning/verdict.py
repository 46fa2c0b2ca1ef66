"""The verdict: the winner beside every named method, on documents and probes that tuning never saw; pure.

Every row is one static scheme at all lengths, as an engine would run it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.metrics.perplexity import PERPLEXITY
from ropewalk.stats.blocks import Block
from ropewalk.stats.clusters import clustered
from ropewalk.stats.column import Column
from ropewalk.stats.paired import Paired


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """Everything that was judged.

    Attributes:
        labels: the winner first, then its repeats, then each named method at its best.
        perplexity: by length, over all tokens after the first; one unit per document.
        beyond: over the tokens from the window to N.
        column: what is found; None without probes.
        found: by length; one unit per probe.
    """

    labels: tuple[str, ...]
    length: int
    perplexity: Mapping[int, Block]
    beyond: Block
    column: Column | None
    found: Mapping[int, Block]

    def against(self, other: str, row: str | None = None) -> dict[str, Any]:
        """The winner, or a row, compared with another row, JSON values: ratios of perplexity, differences of found
        shares."""
        own = self.labels[0] if row is None else row
        found: dict[str, Any] = {"beyond": _plain(self.beyond.paired(own, other))}
        found["perplexity"] = {str(n): _plain(b.paired(own, other)) for n, b in self.perplexity.items()}
        if self.column is not None:
            pairs = {str(n): _plain(b.paired(own, other)) for n, b in self.found.items()}
            found[self.column.name] = pairs
        return found

    def spread(self, labels: Sequence[str]) -> dict[str, Any]:
        """The best and the worst of some rows beyond the window, and the ratio of their perplexities, JSON values."""
        ranked = sorted(labels, key=lambda label: self.beyond.losses_C[self.labels.index(label)])
        best, worst = ranked[0], ranked[-1]
        return {"best": best, "worst": worst, "beyond": _plain(self.beyond.paired(worst, best))}

    def row(self, label: str) -> dict[str, Any]:
        """The numbers of one row, JSON values."""
        found: dict[str, Any] = {
            "label": label,
            "beyond": math.exp(self.beyond.interval(label).value),
            "perplexity": {str(n): math.exp(b.interval(label).value) for n, b in self.perplexity.items()},
        }
        if self.column is not None:
            found[self.column.name] = {str(n): b.interval(label).value for n, b in self.found.items()}
        return found

    def counted(self) -> dict[str, str] | None:
        """The name of what is found in the rows, its title and its items, JSON values; None without probes."""
        column = self.column
        return None if column is None else {"name": column.name, "title": column.title, "items": column.items}


def _plain(paired: Paired) -> dict[str, Any]:
    interval = paired.interval
    return {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n, "p": paired.p}


def losses_block(
    losses: Mapping[str, Sequence[NDArray[np.float32]]], units: Sequence[str], low: int, high: int
) -> Block:
    """Perplexity over the tokens low..high-1 of every document; losses float32 `[T - 1]` by label and window.

    `units` name the document of each window.
    """
    sums = np.array(
        [[float(nll[low - 1 : high - 1].astype(np.float64).sum()) for nll in each] for each in losses.values()]
    )
    found = Block(
        column=PERPLEXITY,
        lengths=(high,),
        labels=tuple(losses),
        units=tuple(units),
        numerators_CN=sums,
        denominators_CN=np.full_like(sums, high - low),
    )
    return clustered(found, units)


def found_block(column: Column, found: Mapping[str, Sequence[bool]], length: int) -> Block:
    """Probes found by label and place."""
    successes = np.array([list(each) for each in found.values()], dtype=np.float64)
    return Block(
        column=column,
        lengths=(length,),
        labels=tuple(found),
        units=tuple(str(i) for i in range(successes.shape[1])),
        numerators_CN=successes,
        denominators_CN=np.ones_like(successes),
    )
