"""What a candidate is worth: its losses on the search set, and the number that a search minimises; pure.

Shapes: D documents, L short lengths, P probes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

PENALTY = 10.0
"""What a bound that is not met costs: nats of the objective per nat of excess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a rotation did on the search set; fewer than all documents and no probes if it was dropped on the way.

    Attributes:
        long_D: mean loss beyond the window, nats per token.
        short_DL: mean loss of each prefix inside the window, nats per token.
        keys_D: summed loss of key tokens beyond the window and their number; empty if they do not count.
        retrieval_P: mean loss of each probe's answer, nats per token; empty if it does not count.
    """

    long_D: tuple[float, ...]
    short_DL: tuple[tuple[float, ...], ...]
    keys_D: tuple[tuple[float, int], ...] = ()
    retrieval_P: tuple[float, ...] = ()

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Outcome:
        """From JSON, as `plain` gives it."""
        return cls(
            long_D=tuple(raw["long_D"]),
            short_DL=tuple(tuple(each) for each in raw["short_DL"]),
            keys_D=tuple((total, count) for total, count in raw["keys_D"]),
            retrieval_P=tuple(raw["retrieval_P"]),
        )

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Weights of mean losses, and bounds.

    Attributes:
        max_short_cost: largest rise of perplexity at the worst short length against `none`, as a share (0.05 is 5 %).
        max_retrieval: largest mean loss of the probes' answers, nats per token.
    """

    long: float
    retrieval: float
    keys: float
    max_short_cost: float | None = None
    max_retrieval: float | None = None

    @property
    def probes(self) -> bool:
        """Whether probes count."""
        return self.retrieval > 0 or self.max_retrieval is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A candidate's number and what it is made of.

    Attributes:
        objective: the weighted sum, with PENALTY for the excess.
        long, retrieval, keys: mean losses, nats per token; None where they do not count.
        short_cost: rise of perplexity at the worst short length against `none`, as a share.
        excess: how far the bounds are exceeded, nats; 0 if they are met.
    """

    objective: float
    long: float
    short_cost: float
    retrieval: float | None
    keys: float | None
    excess: float

    @property
    def met(self) -> bool:
        return self.excess == 0.0


def score(outcome: Outcome, unscaled: Outcome, goal: Goal) -> Score:
    """The score of an outcome; `unscaled` is what `none` did on the same documents."""
    seen = len(outcome.long_D)
    long = float(np.mean(outcome.long_D))
    rise_L = np.mean(np.array(outcome.short_DL) - np.array(unscaled.short_DL[:seen]), axis=0)
    rise = float(rise_L.max())
    retrieval = float(np.mean(outcome.retrieval_P)) if outcome.retrieval_P else None
    total, count = (sum(each[i] for each in outcome.keys_D) for i in (0, 1))
    keys = total / count if count else None
    excess = max(0.0, rise - math.log1p(goal.max_short_cost)) if goal.max_short_cost is not None else 0.0
    if goal.max_retrieval is not None and retrieval is not None:
        excess += max(0.0, retrieval - goal.max_retrieval)
    weighted = goal.long * long + goal.retrieval * (retrieval or 0.0) + goal.keys * (keys or 0.0)
    return Score(
        objective=weighted + PENALTY * excess,
        long=long,
        short_cost=math.expm1(rise),
        retrieval=retrieval,
        keys=keys,
        excess=excess,
    )
