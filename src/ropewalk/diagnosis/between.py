"""Two servers on the same tokens, by position: from which length on do they part? No weights are needed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.diagnosis.match import BLOCK, CONFIDENCE, EARLY, GROWTH, RESOLUTION, blocks
from ropewalk.errors import ExportError
from ropewalk.export.check import Observed
from ropewalk.stats.findings.finding import spelled
from ropewalk.stats.intervals import Interval
from ropewalk.stats.paired import paired_t


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Positions `low` to `high - 1` of both servers.

    Attributes:
        difference: mean NLL of the first minus the second, nats/token, with its interval over blocks.
        rms: root mean square of the tokens' differences.
    """

    low: int
    high: int
    difference: Interval
    rms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Two servers.

    Attributes:
        names: of both.
        ranges: doubling, in order.
        part: the position from which on they differ more than at the beginning; None: nowhere.
    """

    names: tuple[str, str]
    ranges: tuple[Range, ...]
    part: int | None

    @property
    def healthy(self) -> bool:
        """They do not part."""
        return self.part is None

    @property
    def sentence(self) -> str:
        """Where they part."""
        if self.part is not None:
            return (
                f"{self.names[0]} and {self.names[1]} part from position {self.part} on: up to there they differ by "
                "what roundings of weights do, beyond by more; compare their rotations and caches."
            )
        largest = max(each.rms for each in self.ranges)
        same = "are the same to float32" if largest <= RESOLUTION else "differ alike at all positions"
        return f"{self.names[0]} and {self.names[1]} {same} (up to {largest:.2g} nats/token, root mean square)."

    def lines(self) -> list[str]:
        """The sentence, and a row per range."""
        head = f"{'positions':>14} {'rms':>9}  first minus second, nats/token"
        rows = [
            f"{f'{each.low}-{each.high - 1}':>14} {each.rms:9.2g}  {spelled(each.difference, '.2g')}"
            for each in self.ranges
        ]
        note = f"intervals {CONFIDENCE:.0%}, paired over blocks of at least {BLOCK} positions, taken as independent"
        return [self.sentence, head, *rows, note]

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        rows = [
            {"low": r.low, "high": r.high, "rms": r.rms, "difference": r.difference.value}
            | {"difference_low": r.difference.low, "difference_high": r.difference.high}
            for r in self.ranges
        ]
        return {"servers": list(self.names), "part": self.part, "sentence": self.sentence, "ranges": rows}


def between(one: Observed, other: Observed) -> Between:
    """Compare two engines' losses of the same tokens.

    Raises:
        ExportError: too few tokens.
    """
    known = np.flatnonzero(~np.isnan(one.nll) & ~np.isnan(other.nll))
    if known.size < 4 * EARLY:
        raise ExportError(
            f"{known.size} log-probabilities that both servers gave are too few; give a longer text or --length."
        )
    a, b = one.nll.astype(np.float64), other.nll.astype(np.float64)
    ranges = tuple(_range(a, b, part) for part in _doubling(known))
    return Between(names=(one.name, other.name), ranges=ranges, part=_part(ranges))


def _doubling(known: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Ranges `[n]` of positions `[N]`, each as long as all before it; a rest too short for blocks joins the last."""
    edges = [0, 2 * EARLY]
    while 2 * edges[-1] + EARLY <= known.size:
        edges.append(2 * edges[-1])
    return [known[low:high] for low, high in zip(edges, [*edges[1:], known.size], strict=True) if high > low]


def _range(a: NDArray[np.float64], b: NDArray[np.float64], part: NDArray[np.int64]) -> Range:
    """How far two sides' losses `[T]` are apart at the positions `[n]` of a range."""
    apart = a[part] - b[part]
    return Range(
        low=int(part[0]) + 1,
        high=int(part[-1]) + 2,
        difference=paired_t(blocks(a[part]), blocks(b[part]), CONFIDENCE).interval,
        rms=float(np.sqrt(np.mean(apart**2))),
    )


def _part(ranges: tuple[Range, ...]) -> int | None:
    """The first range from which on all are GROWTH times as far apart as the first one is; the very first where that is
    beyond what weights can explain is left to the table."""
    least = max(RESOLUTION, GROWTH * ranges[0].rms)
    late = [each.rms > least for each in ranges]
    first = next((i for i in range(len(ranges)) if all(late[i:])), None)
    return None if first is None else ranges[first].low
