"""One metric, measured for many configurations on the same documents or trials: the value every comparison starts from.

Shape legend: C configurations, N units (documents or trials).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from ropewalk.stats.column import Column
from ropewalk.stats.intervals import FloatArray, Interval, wilson
from ropewalk.stats.paired import Paired, mcnemar_exact, paired_difference, paired_ratio
from ropewalk.stats.pooled import ratio_interval


def _none_left_out() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Raw outcomes that can be compared pair by pair.

    Attributes:
        column: what was measured: how it is pooled, compared and shown.
        lengths: what was fed, tokens: one length. Longer prompts go on where shorter ones of the same key end, and
            longer texts hold the shorter ones, so lengths side by side would not be independent units.
        labels: C configurations, in the order of the run.
        units: N document ids or trials, the same for every label.
        numerators_CN: float64 `[C, N]`, summed nats or bits, or 1 for a success, else 0.
        denominators_CN: float64 `[C, N]`, scored tokens or bytes, 1 for a trial.
        left_out: configurations that were asked for and cannot be compared, with the reason.
        share: of the chance of an error that a judgement of the block may spend: below 1 where the same run was judged
            while it was measured (`sequential`).
        windows: of each document, pooled in its outcomes.
        between: share of a window's variance that is between documents, of differences from the best (`clusters`);
            None where it is not known, as with one window.
        groups: N names of what each unit is one of several of, such as a task; empty where units have none.
    """

    column: Column
    lengths: tuple[int, ...]
    labels: tuple[str, ...]
    units: tuple[str, ...]
    numerators_CN: FloatArray
    denominators_CN: FloatArray
    left_out: Mapping[str, str] = field(default_factory=_none_left_out)
    share: float = 1.0
    windows: int = 1
    between: float | None = None
    groups: tuple[str, ...] = ()
    _places: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {label: place for place, label in enumerate(self.labels)})
        if len(self.lengths) != 1:
            raise ValueError(
                f"{self.metric} at {self.lengths}: a block is of one length, as lengths share documents and prompts; "
                "compare at each length"
            )
        shape = (len(self.labels), len(self.units))
        if self.numerators_CN.shape != shape or self.denominators_CN.shape != shape:
            raise ValueError(
                f"{self.metric} at {self.lengths}: {shape[0]} labels and {shape[1]} units need arrays {shape}, "
                f"got {self.numerators_CN.shape} and {self.denominators_CN.shape}"
            )
        if not (np.isfinite(self.numerators_CN).all() and np.isfinite(self.denominators_CN).all()):
            raise ValueError(
                f"{self.metric} at {self.lengths} holds values that are not finite; name those configurations in "
                "left_out, with the reason"
            )
        if shape[1] and not (self.denominators_CN.sum(axis=1) > 0).all():
            raise ValueError(f"{self.metric} at {self.lengths}: a configuration without any scored unit has no ratio")

    @property
    def metric(self) -> str:
        """The column's name."""
        return self.column.name

    @property
    def counts(self) -> bool:
        """Whether units are 0 or 1."""
        return self.column.counts

    @property
    def values_C(self) -> FloatArray:
        """`[C]` pooled ratios: mean nll in nats/token, bits/byte, a share, or a mean."""
        if not self.units:
            return np.full(len(self.labels), np.nan)
        return self.numerators_CN.sum(axis=1) / self.denominators_CN.sum(axis=1)

    @property
    def losses_C(self) -> FloatArray:
        """`[C]` values turned so that lower is better."""
        return -self.values_C if self.column.higher_is_better else self.values_C

    def row(self, label: str) -> tuple[FloatArray, FloatArray]:
        """Numerators and denominators `[N]` of one configuration."""
        index = self._places[label]
        return self.numerators_CN[index], self.denominators_CN[index]

    def interval(self, label: str, confidence: float = 0.95) -> Interval:
        """The configuration's pooled value with its interval: by t, of a share by Wilson."""
        numerators_N, denominators_N = self.row(label)
        if self.counts:
            return wilson(int(numerators_N.sum()), numerators_N.size, confidence)
        return ratio_interval(numerators_N, denominators_N, confidence)

    def paired(self, label: str, reference: str, confidence: float = 0.95) -> Paired:
        """label against reference: a ratio of perplexities, else a difference."""
        numerators_N, denominators_N = self.row(label)
        others_N, other_denominators_N = self.row(reference)
        if self.counts:
            return mcnemar_exact(numerators_N, others_N, confidence)
        compare = paired_ratio if self.column.is_ratio else paired_difference
        return compare(numerators_N, denominators_N, others_N, other_denominators_N, confidence)

    def same(self, label: str) -> tuple[str, ...]:
        """The others with the very same outcomes: one measurement under several names."""
        own = [row.tobytes() for row in self.row(label)]
        return tuple(x for x in self.labels if x != label and [row.tobytes() for row in self.row(x)] == own)

    def only(self, labels: Sequence[str]) -> Block:
        """The same block with these configurations alone, in the order given; those it lacks are skipped."""
        index = [self._places[label] for label in labels if label in self._places]
        kept = set(labels)
        return Block(
            column=self.column,
            lengths=self.lengths,
            labels=tuple(self.labels[i] for i in index),
            units=self.units,
            numerators_CN=self.numerators_CN[index],
            denominators_CN=self.denominators_CN[index],
            left_out={label: reason for label, reason in self.left_out.items() if label in kept},
            share=self.share,
            windows=self.windows,
            between=self.between,
            groups=self.groups,
        )

    def by_group(self) -> dict[str, Block]:
        """The units of each group alone, in the order of the run."""
        places = {name: [i for i, own in enumerate(self.groups) if own == name] for name in dict.fromkeys(self.groups)}
        return {
            name: replace(
                self,
                units=tuple(self.units[i] for i in own),
                numerators_CN=self.numerators_CN[:, own],
                denominators_CN=self.denominators_CN[:, own],
                groups=(name,) * len(own),
            )
            for name, own in places.items()
        }
