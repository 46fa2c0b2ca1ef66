"""The part of a plan that one job of a batch system measures; `merge` makes one run of all parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ropewalk.errors import ExperimentError
from ropewalk.experiment.todo import Chunk, PassTask, Task

MAX_SHARDS = 10_000


@dataclass(frozen=True, slots=True)
class Shard:
    """The `place`-th of `count` parts, counted from 1."""

    place: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Raises ExperimentError unless it is K/N with 1 <= K <= N."""
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        place, count = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= place <= count <= MAX_SHARDS:
            raise ExperimentError(f"--shard {text}: must be K/N with K from 1 to N, such as 1/4.")
        return cls(place, count)

    def __str__(self) -> str:
        return f"{self.place}/{self.count}"


def share(chunks: Sequence[Chunk], shard: Shard) -> frozenset[Any]:
    """What belongs to a shard, as `belongs` knows it; every shard's `chunks` are the same, dearest first.

    They are dealt there and back, so that whoever gets the dearest gets the cheapest of the next round.
    """
    own: list[Task] = []
    for place, chunk in enumerate(chunks):
        turn, seat = divmod(place, shard.count)
        if (seat if turn % 2 == 0 else shard.count - 1 - seat) == shard.place - 1:
            own += chunk.tasks
    return frozenset(_mark(task) for task in own)


def belongs(chunks: Sequence[Chunk], share: frozenset[Any]) -> list[Chunk]:
    """The chunks with what belongs to a share alone."""
    cut: list[Chunk] = []
    for chunk in chunks:
        tasks: Any = tuple(task for task in chunk.tasks if _mark(task) in share)
        if tasks:
            cut.append(Chunk(tasks=tasks))
    return cut


def _mark(task: Task) -> Any:
    """A pass by its text, however far it reaches: one that does not fit is tried again up to a shorter end."""
    return (task.feed, task.document) if isinstance(task, PassTask) else task
