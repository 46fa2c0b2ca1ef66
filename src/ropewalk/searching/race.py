"""Racing: a candidate leaves once what it has been measured on excludes that it beats the best; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ropewalk.searching.objective import Goal, Outcome, Score
from ropewalk.stats.paired import paired_t

FIRST = 2
"""Documents that every candidate sees: fewer hold no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """The best candidate so far, whose number a new one has to beat."""

    outcome: Outcome
    score: Score

    def gap(self, outcome: Outcome, goal: Goal) -> float:
        """How much worse the other is beyond the window, weighted, on the documents that it has seen."""
        seen = len(outcome.long_D)
        return goal.long * (math.fsum(outcome.long_D) - math.fsum(self.outcome.long_D[:seen])) / seen

    def excludes(self, outcome: Outcome, goal: Goal) -> bool:
        """Whether the candidate cannot win any more.

        Everything else in an objective is >= 0, so what the rival pays beside its long loss is all that a candidate
        can still make up for: it leaves when the 95 % paired t interval of its weighted long loss lies above that; of
        all documents, when the loss itself does, and its probes are spared.
        """
        seen = len(outcome.long_D)
        if seen < FIRST or goal.long == 0:
            return False
        margin = self.score.objective - goal.long * self.score.long
        if seen == len(self.outcome.long_D):
            return self.gap(outcome, goal) > margin
        low = paired_t(outcome.long_D, self.outcome.long_D[:seen]).interval.low
        return low is not None and goal.long * low > margin

    def estimate(self, outcome: Outcome, goal: Goal) -> float:
        """The objective that a dropped candidate goes on record with: the rival's plus the gap."""
        return self.score.objective + self.gap(outcome, goal)


def saving(measured: Iterable[int], whole: int) -> float:
    """The share of passes that racing spared, from what each candidate was measured on, out of `whole`."""
    seen = list(measured)
    return 1.0 - sum(seen) / (whole * len(seen)) if seen else 0.0
