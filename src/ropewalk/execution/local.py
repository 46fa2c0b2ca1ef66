"""The reference executor: one worker, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ropewalk.execution.executor import Closed, Done, Event, Executor, Fleet, Joined
from ropewalk.execution.lease import Lease, leased
from ropewalk.execution.worker import Result, Worker
from ropewalk.experiment.prepare import Asked
from ropewalk.experiment.todo import Chunk, Task

NAME = "this session"


def run(worker: Worker, chunks: Sequence[Chunk]) -> Iterator[list[tuple[Task, Result]]]:
    """Outcomes of all chunks, batch by batch."""
    for chunk in chunks:
        yield from worker.run(chunk)


@dataclass(frozen=True, slots=True, eq=False)
class Alone:
    """A crew of one."""

    lease: Lease

    def first(self) -> Joined:
        return Joined(worker=0, name=NAME, opening=self.lease.opening())

    def ask(self, method: str, *args: Any) -> Any:
        return getattr(self.lease, method)(*args)

    def map(self, chunks: Sequence[Chunk]) -> Iterator[Event]:
        """Outcomes as they come; chunks go through as they are, so that one batch is always in flight."""
        for batch in run(self.lease.worker, chunks):
            yield Done(worker=0, outcomes=batch)

    def close(self) -> Iterator[Closed]:
        yield Closed(worker=0, name=NAME, canary=self.lease.closing())


@contextmanager
def crew(asked: Asked, exact: bool, fleet: Fleet) -> Iterator[Alone]:
    """This process as a worker."""
    with leased(asked, exact=exact) as lease:
        yield Alone(lease)


EXECUTOR = Executor(name="local", summary="one worker, in this process", crew=crew)
