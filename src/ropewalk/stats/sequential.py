"""Elimination while measuring: looks fixed beforehand, each with its share of the chance of an error; pure.

A run that may stop early judges its outcomes at looks: after 4, 5, 7, 9, ... documents, after all of them, and after
every doubling of the windows read of each. At a look those still in the running are judged as `best_set` judges them,
at `alpha` times the look's share; who leaves then is not measured any further and never comes back.

The shares sum to 1. So whatever the outcomes, whenever and why ever the run stops, every configuration that is truly
best has left in at most `alpha` of runs, wherever `best_set` keeps its own level. Intervals at looks, each at its
share, are in the same way a confidence sequence: all of them hold together.

Why not e-processes (right-Haar mixtures of t: Perez-Ortiz et al. 2024, arXiv:2208.07610; Wang & Ramdas 2025,
arXiv:2310.03722): documents are few and their number is known. With 35 configurations a mixture asks for a larger
difference than looks at every number of documents up to 32, and it has no form for pooled ratios, effective degrees or
skewness (benchmarks/deciding.py measures both).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ropewalk.stats.best import best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.intervals import ALPHA
from ropewalk.stats.paired import Paired

FIRST = 4
"""Units at the first look, or a quarter of all: a rare failure that few documents do not show makes a configuration
look better than it is (docs/statistics.md)."""
GROWTH = 1.25
EARLY = 0.5
"""Share of all looks before the last; halved between those of documents and those of windows where both are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A moment at which the outcomes are judged.

    Attributes:
        units: documents or trials read by then, of each configuration still in the running.
        windows: stretches read of each document.
        share: of the chance of an error, spent here.
    """

    units: int
    windows: int = 1
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A configuration that left.

    Attributes:
        p: at which it left, corrected for the pairs then in the running; compared with `alpha * look.share`.
        rival: the best of those that stayed.
        paired: it against the rival, on what both had been measured on; the interval at 95 %.
    """

    label: str
    p: float
    look: Look
    rival: str
    paired: Paired


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Who is in the running, in the order of the run, and who left, in that order."""

    running: tuple[str, ...]
    left: tuple[Left, ...] = ()


def looks(units: int, windows: int = 1, *, first: int = FIRST) -> tuple[Look, ...]:
    """The looks of a run over so many units and windows: units first, since at equal cost they say more.

    The last has what the others leave: at least half.

    Raises:
        ValueError: units or windows < 1.
    """
    if units < 1 or windows < 1:
        raise ValueError(f"looks need units={units!r} >= 1 and windows={windows!r} >= 1")
    parts = [[(n, 1) for n in _grown(max(first, units // 4), units)], [(units, w) for w in _doubled(windows)]]
    parts = [part for part in parts if part]
    early = [Look(units=n, windows=w, share=EARLY / len(parts) / len(part)) for part in parts for n, w in part]
    return (*early, Look(units=units, windows=windows, share=1 - EARLY * bool(parts)))


def judge(standing: Standing, block: Block, look: Look, alpha: float = ALPHA) -> Standing:
    """The standing after a look at the outcomes of those in the running.

    Args:
        standing: before the look.
        look: what is read by now, and its share of alpha.
        alpha: chance of an error over the whole run.
        block: holds every configuration in the running, and of each the units of the look.

    Raises:
        ValueError: the block lacks a configuration, or has other units than the look.
    """
    missing = [label for label in standing.running if label not in block.labels]
    if missing or len(block.units) != look.units:
        raise ValueError(f"a look at {look.units} units needs as many of {list(standing.running)}; lacks {missing}")
    best = best_set(block.only(standing.running), alpha * look.share)
    if not best.excluded or best.winner is None:
        return standing
    rival = best.winner
    gone = tuple(
        Left(label=label, p=p, look=look, rival=rival, paired=block.paired(label, rival)) for label, p in best.excluded
    )
    stay = set(best.members)
    return replace(
        standing,
        running=tuple(label for label in standing.running if label in stay),
        left=(*standing.left, *gone),
    )


def _grown(first: int, units: int) -> Iterator[int]:
    """first, then a quarter more each time, below units."""
    n = first
    while n < units:
        yield n
        n = max(n + 1, int(GROWTH * n + 0.5))


def _doubled(windows: int) -> Iterator[int]:
    """1, 2, 4, ... below windows."""
    w = 1
    while w < windows:
        yield w
        w *= 2
