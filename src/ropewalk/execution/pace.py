"""When a run stops by itself, how much time it may take, and how far it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ropewalk.errors import ExperimentError
from ropewalk.experiment.deciding import State
from ropewalk.experiment.todo import Chunk, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """That a run stops by itself: as soon as the best is known, or at a precision (per cent, or points of a share).

    Attributes:
        budget_s: no round is begun that would end later in this session, at its pace so far; None for no end.
    """

    precision: float | None = None
    budget_s: float | None = None


@dataclass(slots=True)
class Pace:
    """How fast a session goes, and whether another round fits its budget; None for no end."""

    budget_s: float | None
    started: float = field(default_factory=time.monotonic)
    tokens: int = 0
    round: int = 0

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.started

    def over(self, chunks: Sequence[Chunk], state: State | None) -> bool:
        """Whether a round would end after the budget; the first one is always begun."""
        self.round = self.tokens + sum(chunk.tokens for chunk in chunks)
        if self.budget_s is None or state is None or state.step.look is None:
            return False
        per_token = self.spent_s / self.tokens if self.tokens else 0.0
        return self.spent_s + sum(chunk.tokens for chunk in chunks) * per_token > self.budget_s

    def fed(self, tokens: int, state: State | None) -> None:
        """Take note of a batch.

        Raises:
            ExperimentError: the budget is spent, and the run's first round is not done.
        """
        self.tokens += tokens
        if self.budget_s is None or state is None or state.step.look is not None:
            return
        if self.spent_s > self.budget_s and self.tokens < self.round:
            needed = self.spent_s * self.round / self.tokens
            raise ExperimentError(
                f"--budget {self.budget_s:.0f}s: one round takes about {needed:.0f} s, and nothing can be judged "
                "before it is done; give more, or run again: finished work is kept."
            )


class Remaining:
    """What is done of what a session expects, kind by kind of work."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        tasks = [task for chunk in chunks for task in chunk.tasks]
        self.asked, self.done = Counter(task.said for task in tasks), Counter[str]()
        self.rotations = len({task.fingerprint for task in tasks})

    def without(self, tasks: Iterable[Task]) -> str:
        """What these tasks are part of, how far that is, and under how many rotations: they end together, or nearly."""
        self.done.update(said := [task.said for task in tasks])
        many = "s" * (self.rotations != 1)
        return f"{said[-1]}, {self.done[said[-1]]} of {self.asked[said[-1]]}, {self.rotations} rotation{many}"
