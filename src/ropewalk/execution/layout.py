"""Chunks of what is to do: as small as they may be without changing the batches that one worker alone would make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ropewalk.execution.worker import Worker
from ropewalk.experiment.todo import Chunk, PassTask, PromptTask
from ropewalk.metrics.requests import Forced
from ropewalk.models.size import ModelSize, size_of_loaded
from ropewalk.scoring.loop import batches
from ropewalk.scoring.shared import grain_of, together, walk

PER_WORKER = 16
"""Chunks that each worker gets at least, where there are batches enough: then the last one to finish is not late."""


def laid_out(worker: Worker, chunks: Sequence[Chunk], workers: int) -> list[Chunk]:
    """The same tasks in smaller chunks with their costs, dearest first.

    A chunk of passes is some whole batches; one of prompts is the rotations that walk the tree of their prompts
    beside each other. Neither changes what goes through the model at once, so outcomes stay the same to the bit.
    """
    passes = [task for chunk in chunks for task in chunk.tasks if isinstance(task, PassTask)]
    prompts = [task for chunk in chunks for task in chunk.tasks if isinstance(task, PromptTask)]
    single = [*_passes(worker, passes), *_forced(worker, prompts), *_generated(worker, prompts)]
    most = sum(chunk.cost for chunk in single) / (PER_WORKER * workers)
    return sorted(_joined(single, most), key=lambda chunk: -chunk.cost)


def _joined(chunks: Sequence[Chunk], most: float) -> Iterator[Chunk]:
    """Neighbours of one shape together, up to a cost: some batches of even parts come apart into the same again."""
    before: Chunk | None = None
    for chunk in chunks:
        if before is not None and _alike(before, chunk) and before.cost + chunk.cost <= most:
            tasks = (*before.tasks, *chunk.tasks)
            before = Chunk(tasks=tasks, cost=before.cost + chunk.cost)  # type: ignore[arg-type]
            continue
        if before is not None:
            yield before
        before = chunk
    if before is not None:
        yield before


def _alike(one: Chunk, other: Chunk) -> bool:
    """Whether both are passes over as many tokens."""
    first, second = one.tasks[0], other.tasks[0]
    return isinstance(first, PassTask) and isinstance(second, PassTask) and first.tokens == second.tokens


def _passes(worker: Worker, tasks: Sequence[PassTask]) -> Iterator[Chunk]:
    size = size_of_loaded(worker.prepared.model)
    for batch in batches([worker.row(task) for task in tasks], worker.rows_at_once):
        own = tuple(tasks[index] for index in batch)
        yield Chunk(tasks=own, cost=sum(cost(size, task.tokens) for task in own))


def _forced(worker: Worker, tasks: Sequence[PromptTask]) -> Iterator[Chunk]:
    """Prompts with answers, as `Worker` scores them: over all of the plan's, of which these are left."""
    size, every = size_of_loaded(worker.prepared.model), worker.forced()
    wanted = {task for task in tasks if isinstance(worker.prompt(task).request, Forced)}
    if not wanted:
        return
    rows = [worker.answer_row(task) for task in every]
    groups = None if worker.exact else together(worker.parts, rows, worker.budget)
    if groups is None:
        left = [index for index, task in enumerate(every) if task in wanted]
        for batch in batches([rows[index] for index in left], worker.rows_at_once):
            own = tuple(every[left[index]] for index in batch)
            yield Chunk(tasks=own, cost=sum(cost(size, task.tokens) for task in own))
        return
    for group in groups:
        own = tuple(every[index] for rotation in group for index in rotation if every[index] in wanted)
        if own:
            first = [rows[index] for index in group[0]]
            grain = grain_of(worker.parts.head.weight)
            steps = walk([row.ids for row in first], [row.answer_tokens for row in first], grain)
            fed = (cost(size, len(first[step.prompt].ids), step.shared) for step in steps)
            yield Chunk(tasks=own, cost=len(group) * sum(fed))


def _generated(worker: Worker, tasks: Sequence[PromptTask]) -> Iterator[Chunk]:
    size = size_of_loaded(worker.prepared.model)
    for task in tasks:
        if not isinstance(worker.prompt(task).request, Forced):
            yield Chunk(tasks=(task,), cost=2 * cost(size, task.tokens))


def cost(size: ModelSize, length: int, before: int = 0) -> float:
    """Multiplications of a pass over `length` tokens of which the first `before` are held: weights, and attention."""
    attention = size.layers * size.queries * (length**2 - before**2)
    return float(size.parameters) * (length - before) + attention
