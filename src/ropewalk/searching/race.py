"""Racing: a candidate leaves once the documents it has seen exclude that it beats the best; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ropewalk.searching.objective import Goal, Outcome, Score
from ropewalk.stats import paired_t

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
        can still make up for: it leaves when the 95 % paired t interval of its weighted long loss lies above that.
        """
        seen = len(outcome.long_D)
        if seen < FIRST or goal.long == 0:
            return False
        interval = paired_t(outcome.long_D, self.outcome.long_D[:seen]).interval
        margin = self.score.objective - goal.long * self.score.long
        return interval.low is not None and goal.long * interval.low > margin

    def estimate(self, outcome: Outcome, goal: Goal) -> float:
        """The objective that a dropped candidate goes on record with: the rival's plus the gap."""
        return self.score.objective + self.gap(outcome, goal)


def saving(documents_seen: Iterable[int], documents: int) -> float:
    """The share of document passes that racing spared."""
    seen = list(documents_seen)
    return 1.0 - sum(seen) / (documents * len(seen)) if seen else 0.0
