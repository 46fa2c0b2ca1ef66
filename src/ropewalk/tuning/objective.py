"""What a scheme is worth on the tuning set: its losses, and the number that methods and seeds are chosen by; pure.

Shapes: D documents, L short lengths, P probes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

PENALTY = 10.0
"""What a bound that is not met costs: nats of the objective per nat of excess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a scheme did on the tuning set.

    Attributes:
        long_D: mean loss beyond the window, nats per token.
        short_DL: mean loss of each prefix inside the window, nats per token.
        retrieval_P: mean loss of each probe's answer, nats per token; empty if it does not count.
    """

    long_D: tuple[float, ...]
    short_DL: tuple[tuple[float, ...], ...]
    retrieval_P: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.long_D or [len(each) for each in self.short_DL] != [len(self.short_DL[0])] * len(self.long_D):
            raise ValueError("its documents do not fit together")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The weight of the probes' answers beside the loss beyond the window, and a bound.

    Attributes:
        max_short_cost: largest rise of perplexity at the worst short length against `none`, as a share (0.05 is 5 %).
    """

    retrieval: float
    max_short_cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A scheme's number and what it is made of.

    Attributes:
        objective: the weighted sum, with PENALTY for the excess.
        long, retrieval: mean losses, nats per token; None where they do not count.
        short_cost: rise of perplexity at the worst short length against `none`, as a share.
        excess: how far the bound is exceeded, nats; 0 if it is met.
    """

    objective: float
    long: float
    short_cost: float
    retrieval: float | None
    excess: float

    @property
    def met(self) -> bool:
        return self.excess == 0.0


def score(outcome: Outcome, unscaled: Outcome, goal: Goal) -> Score:
    """The score of an outcome; `unscaled` is what `none` did on the same documents."""
    long = float(np.mean(outcome.long_D))
    rise_L = np.mean(np.array(outcome.short_DL) - np.array(unscaled.short_DL), axis=0)
    rise = float(rise_L.max())
    retrieval = float(np.mean(outcome.retrieval_P)) if outcome.retrieval_P else None
    excess = max(0.0, rise - math.log1p(goal.max_short_cost)) if goal.max_short_cost is not None else 0.0
    return Score(
        objective=long + goal.retrieval * (retrieval or 0.0) + PENALTY * excess,
        long=long,
        short_cost=math.expm1(rise),
        retrieval=retrieval,
        excess=excess,
    )
