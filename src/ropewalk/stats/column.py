"""What a metric reports: a column of the results, and how its units are pooled and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pooling = Literal["nll", "bits", "share", "mean"]
"""`nll`: summed nats over tokens, shown as a perplexity, compared as a ratio. `bits`: summed bits over bytes, compared
as a difference. `share`: 0 or 1 per unit, Wilson intervals, exact McNemar. `mean`: numbers, compared by difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One number per configuration and length.

    Attributes:
        name: as in `ropewalk results`, unique over all metrics.
        title: in a sentence, such as `tail perplexity`.
        pooling: decides interval, pairing, sign and rounding.
        unit: what it is a sample of, in the singular: `document` or `trial`.
        higher_is_better: of the values; a share's always is.
        at_length: whether it says what the model is like at that distance, and not on average up to it.
    """

    name: str
    title: str
    pooling: Pooling
    unit: str = "document"
    higher_is_better: bool = False
    at_length: bool = False

    def __post_init__(self) -> None:
        if self.higher_is_better and self.pooling in ("nll", "bits"):
            raise ValueError(f"column {self.name!r}: of pooling {self.pooling!r} less is better")
        if not self.higher_is_better and self.pooling == "share":
            raise ValueError(f"column {self.name!r}: of a share more is better; count what succeeds")
