"""What a plan still asks for, in chunks that go through a model together; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ropewalk.experiment.index import Index
from ropewalk.experiment.plan import Feed, Plan, PromptSet


@dataclass(frozen=True, slots=True, kw_only=True)
class PassTask:
    """A feed on one document up to `stop`."""

    feed: Feed
    document: int
    stop: int

    @property
    def fingerprint(self) -> str:
        return self.feed.fingerprint

    @property
    def tokens(self) -> int:
        return self.stop - self.feed.start

    @property
    def said(self) -> str:
        """What progress calls it."""
        return "scoring documents"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTask:
    """One prompt under one scheme."""

    fingerprint: str
    metric: str
    length: int
    place: int

    @property
    def tokens(self) -> int:
        return self.length

    @property
    def said(self) -> str:
        """What progress calls it."""
        return self.metric


Task = PassTask | PromptTask


def passes(plan: Plan, index: Index) -> list[PassTask]:
    """The passes still to do: the longest end of every feed on every document, or the next shorter one where longer
    ones failed (one that did not fit, or lost its numbers at some token, says nothing about its prefix)."""
    found = []
    for feed, ends in plan.feeds.items():
        for document in range(plan.documents):
            stored = index.passes.get((feed, document), {})
            reached = max((stop for stop, outcome in stored.items() if outcome.status == "ok"), default=0)
            failed = min((stop for stop, outcome in stored.items() if outcome.status != "ok"), default=ends[-1] + 1)
            left = [end for end in ends if reached < end < failed]
            if left:
                found.append(PassTask(feed=feed, document=document, stop=left[-1]))
    return found


def prompts(plan: Plan, index: Index) -> list[PromptTask]:
    """The prompts still to be answered."""
    return [task for each in plan.prompts for task in of_set(each) if not _answered(index, task)]


def of_set(each: PromptSet) -> Iterator[PromptTask]:
    """Every task of a set of prompts."""
    for place in range(each.prompts.first, each.prompts.first + each.prompts.count):
        yield PromptTask(fingerprint=each.fingerprint, metric=each.metric, length=each.length, place=place)


def _answered(index: Index, task: PromptTask) -> bool:
    known = index.prompts.get((task.metric, task.length), ())
    return task.place < len(known) and (task.fingerprint, known[task.place].request) in index.answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Tasks of one kind that a worker takes together, because they share batches or the beginnings of prompts.

    Its identity is its tasks: to run it twice gives the same outcomes. `cost` is its arithmetic, in multiplications;
    0 where nobody has estimated it.
    """

    tasks: tuple[PassTask, ...] | tuple[PromptTask, ...]
    cost: float = field(default=0.0, compare=False)

    @property
    def tokens(self) -> int:
        """Positions fed if nothing is shared."""
        return sum(task.tokens for task in self.tasks)


def todo(plan: Plan, index: Index) -> list[Chunk]:
    """What is left to do, passes first; empty when everything is there or has failed."""
    kinds: list[Chunk] = [Chunk(tasks=tuple(passes(plan, index))), Chunk(tasks=tuple(prompts(plan, index)))]
    return [chunk for chunk in kinds if chunk.tasks]
