"""Windows of documents: the document is the unit, and what reading several stretches of it gains.

Two stretches of one novel resemble each other more than two novels do. So a document's value is the pooled value of its
windows, and intervals count documents; windows taken as units of their own cover too little (docs/statistics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ropewalk.stats.blocks import Block
from ropewalk.stats.intervals import Interval


def clustered(block: Block, documents: Sequence[str]) -> Block:
    """The block with documents as units: numerators and denominators summed over the windows of each.

    Args:
        block: its units are windows.
        documents: `[N]`, the document of each unit.

    Raises:
        ValueError: another number of documents than of units.
    """
    if len(documents) != len(block.units):
        raise ValueError(f"{len(block.units)} windows need as many documents' names, got {len(documents)}")
    names = tuple(dict.fromkeys(documents))
    windows, rest = divmod(len(documents), len(names))
    even = not rest and list(documents) == [name for name in names for _ in range(windows)]
    index = {name: i for i, name in enumerate(names)}
    member_ND = np.zeros((len(documents), len(names)))
    member_ND[np.arange(len(documents)), [index[name] for name in documents]] = 1.0
    return replace(
        block,
        units=names,
        numerators_CN=block.numerators_CN @ member_ND,
        denominators_CN=block.denominators_CN @ member_ND,
        windows=windows,
        between=_share(block, len(names), windows) if even else None,
    )


def _share(block: Block, documents: int, windows: int) -> float | None:
    """Median over all others of the share of their differences from the best; None where nothing says it."""
    if not block.labels or min(documents, windows) < 2 or block.counts or not (block.denominators_CN > 0).all():
        return None
    value_CDW = (block.numerators_CN / block.denominators_CN).reshape(len(block.labels), documents, windows)
    apart_CDW = value_CDW - value_CDW[int(block.losses_C.argmin())]
    vary = (apart_CDW.max(axis=2) > apart_CDW.min(axis=2)).any(axis=1)
    return float(np.median([between(each).share.value for each in apart_CDW[vary]])) if vary.any() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """The share of a window's variance that is between documents (intraclass correlation).

    Attributes:
        share: in [0, 1], with its interval; n counts documents. A share below 0 is shown as 0: windows of a document
            are no more alike than those of others.
        windows: of each document.
    """

    share: Interval
    windows: int

    def worth(self, windows: int) -> Interval:
        """How many documents of one window it takes to say as much as one of so many: `1 / (s + (1 - s)/W)`."""
        ends = self.share.high, self.share.value, self.share.low
        low, value, high = (None if s is None else 1 / (s + (1 - s) / windows) for s in ends)
        return Interval(value=float(value or 1.0), low=low, high=high, n=self.share.n)


def between(values: ArrayLike, confidence: float = 0.95) -> Between:
    """Share of variance between documents, from a one-way analysis of variance (Searle, Casella & McCulloch 1992, 3.8).

    With F = between / within mean square, the share is `(F - 1)/(F - 1 + W)`; its interval is exact for normal values.

    Args:
        values: `[D, W]`, such as the difference of two configurations in mean nll on each window.
        confidence: of the interval.

    Raises:
        ValueError: fewer than two documents or windows, values that are not finite, or none that differ.
    """
    values_DW = np.asarray(values, dtype=np.float64)
    if values_DW.ndim != 2 or min(values_DW.shape) < 2 or not np.isfinite(values_DW).all():
        raise ValueError(f"between needs finite values of 2 or more windows of 2 or more documents: {values_DW.shape}")
    count, windows = values_DW.shape
    mean_D = values_DW.mean(axis=1)
    within = float(((values_DW - mean_D[:, None]) ** 2).sum()) / (count * (windows - 1))
    across = float(((mean_D - mean_D.mean()) ** 2).sum()) * windows / (count - 1)
    if within <= 0:
        raise ValueError("the windows of each document have one and the same value; there is no variance to share out")
    f = across / within
    tail = (1 - confidence) / 2
    degrees = count - 1, count * (windows - 1)
    high = f * float(special.fdtri(degrees[1], degrees[0], 1 - tail))
    low = f / float(special.fdtri(*degrees, 1 - tail))
    shares = [max(0.0, (x - 1) / (x - 1 + windows)) for x in (low, f, high)]
    return Between(share=Interval(low=shares[0], value=shares[1], high=shares[2], n=count), windows=windows)
