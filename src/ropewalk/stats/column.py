"""What a metric reports: a column of the results, and how its units are pooled, compared and shown."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Pooling = Literal["nll", "bits", "share", "mean"]
"""`nll`: summed nats over tokens, shown as a perplexity, compared as a ratio. `bits`: summed bits over bytes, compared
as a difference. `share`: 0 or 1 per unit, Wilson intervals, exact McNemar. `mean`: numbers, compared by difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One number per configuration and length.

    Attributes:
        name: as in `ropewalk results`, unique over all metrics.
        title: over a table, such as `tail perplexity`.
        words: in a sentence, where that is another; see `phrase`.
        items: what a share counts, in the plural, such as `questions`.
        pooling: decides interval, pairing, sign and rounding.
        unit: what it is a sample of, in the singular: `document` or `trial`.
        higher_is_better: of the values; a share's always is.
        at_length: whether it says what the model is like at that distance, and not on average up to it.
    """

    name: str
    title: str
    pooling: Pooling
    words: str = ""
    items: str = "answers"
    unit: str = "document"
    higher_is_better: bool = False
    at_length: bool = False

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise ValueError(
                f"column {self.name!r}: pooling {self.pooling!r} is none of {', '.join(get_args(Pooling))}"
            )
        if self.higher_is_better and self.pooling in ("nll", "bits"):
            raise ValueError(f"column {self.name!r}: of pooling {self.pooling!r} less is better")
        if not self.higher_is_better and self.pooling == "share":
            raise ValueError(f"column {self.name!r}: of a share more is better; count what succeeds")

    @property
    def phrase(self) -> str:
        """What a sentence calls it."""
        return self.words or self.title

    @property
    def is_ratio(self) -> bool:
        """Whether two values are compared as a ratio of perplexities."""
        return self.pooling == "nll"

    @property
    def counts(self) -> bool:
        """Whether a unit is 0 or 1."""
        return self.pooling == "share"

    @property
    def answered(self) -> bool:
        """Whether it says how prompts of that length are answered."""
        return self.at_length and self.pooling in ("share", "mean")

    def value(self, pooled: float) -> float:
        """A pooled ratio as the results table shows it: the perplexity of a mean nll; nats where no float holds it."""
        return math.exp(pooled) if self.is_ratio and pooled <= 700 else pooled

    def units(self, n: int) -> str:
        """`8 documents`, `1 trial`."""
        return f"{n} {self.unit}{'s' * (n != 1)}"


def by_weight(columns: Iterable[Column]) -> list[Column]:
    """Columns in the order in which they decide about a length: losses at it, losses up to it, bits, means, shares."""
    order = ("nll", "bits", "mean", "share")
    return sorted(columns, key=lambda column: (order.index(column.pooling), not column.at_length))
