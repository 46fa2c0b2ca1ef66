"""The reference executor: one worker, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ropewalk.execution.worker import Result, Worker
from ropewalk.experiment.todo import Chunk, Task


def run(worker: Worker, chunks: Sequence[Chunk]) -> Iterator[list[tuple[Task, Result]]]:
    """Outcomes of all chunks, batch by batch."""
    for chunk in chunks:
        yield from worker.run(chunk)
