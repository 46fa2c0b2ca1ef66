"""The only one that writes a run: outcomes go in batch by batch, with the values that they finish."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ropewalk.execution.worker import Result, Said
from ropewalk.experiment.index import Answer, Pass, StoredPrompt
from ropewalk.experiment.plan import Cell, Plan
from ropewalk.experiment.raw import Raw, write_cells
from ropewalk.experiment.store import Store, canonical
from ropewalk.experiment.todo import Chunk, PassTask, PromptTask, Task
from ropewalk.metrics.metric import Prompts
from ropewalk.scoring import Failure


def now() -> str:
    """UTC, to the millisecond: the outcomes of a batch are finished at one time, which says how long it took."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def add_worker(store: Store, facts: Mapping[str, Any], started_at: str | None = None) -> int:
    """Record who measures, or measured since another time than now; returns the number that its outcomes carry."""
    with store.transaction():
        number = store.count("workers") + 1
        values = {**facts, "versions": canonical(facts["versions"])}
        store.insert("workers", {"worker": number, **values, "started_at": started_at or now()})
    return number


class Writer:
    """Writes what workers measure; keeps an index in memory, so that nothing is read back."""

    def __init__(self, store: Store, plan: Plan, raw: Raw) -> None:
        self.store, self.plan, self.raw = store, plan, raw
        self.index = raw.index
        self._left: Counter[tuple[Any, ...]] = Counter()
        self._added: set[Task] = set()
        self._cells: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in plan.cells:
            self._cells.setdefault(_part_of(cell), []).append(cell)

    def expect(self, chunks: Sequence[Chunk]) -> None:
        """Say what comes next: a cell is written with the last of the outcomes that it waits for (of a run that stops
        by itself, which expects nothing, in the end)."""
        self._left = Counter(_part(task) for chunk in chunks for task in chunk.tasks)

    def add_prompts(self, metric: str, length: int, found: list[StoredPrompt]) -> None:
        """Record the prompts of a metric at a length, once."""
        known = self.index.prompts.get((metric, length))
        if known is not None:
            if len(known) == len(found) and all(map(_same, known, found)):
                return
            raise self.store.damaged(f"the prompts of {metric} at {length}")
        with self.store.transaction():
            for place, prompt in enumerate(found):
                row = {"metric": metric, "length": length, "place": place, "request": prompt.request}
                self.store.insert("prompts", row | {"facts": canonical(dict(prompt.facts))})
        self.index.prompts[metric, length] = found

    def add(self, worker: int, batch: Sequence[tuple[Task, Result]]) -> list[Mapping[str, Any]]:
        """Cells that a batch finishes, stored with it in one transaction; what is there already is left alone."""
        batch = [(task, result) for task, result in batch if task not in self._added]
        self._added.update(task for task, _ in batch)
        files = {task: self._write(task, result) for task, result in batch if isinstance(task, PassTask)}
        self._left.subtract(_part(task) for task, _ in batch)
        finished, at = {part for task, _ in batch if self._left[part := _part(task)] == 0}, now()
        with self.store.transaction():
            for task, result in batch:
                if isinstance(task, PassTask):
                    self._add_pass(worker, task, files[task], at)
                else:
                    self._add_answer(worker, task, result, at)
            return write_cells(self.store, self.raw, (cell for part in finished for cell in self._cells.get(part, ())))

    def finish(self) -> list[Mapping[str, Any]]:
        """Every cell whose outcomes are there, stored."""
        with self.store.transaction():
            return write_cells(self.store, self.raw, self.plan.cells)

    def _write(self, task: PassTask, result: Result) -> Pass:
        if isinstance(result, Failure):
            return Pass(status=result.status, reason=result.reason, file=None, sha256=None)
        assert isinstance(result, np.ndarray)
        feed = task.feed
        name = f"nll/{feed.fingerprint}-{task.document}-{feed.start}{'b' * feed.bos}-{task.stop}.safetensors"
        return Pass(status="ok", reason=None, file=name, sha256=self.store.write_arrays(name, {"nll": result}))

    def _add_pass(self, worker: int, task: PassTask, outcome: Pass, at: str) -> None:
        feed = task.feed
        row = {"fingerprint": feed.fingerprint, "document": task.document, "start": feed.start, "bos": int(feed.bos)}
        row |= {"stop": task.stop, "status": outcome.status, "reason": outcome.reason}
        row |= {"file": outcome.file, "sha256": outcome.sha256, "worker": worker, "finished_at": at}
        self.store.insert("passes", row)
        self.index.passes.setdefault((feed, task.document), {})[task.stop] = outcome

    def _add_answer(self, worker: int, task: PromptTask, result: Result, at: str) -> None:
        request = self.index.prompts[task.metric, task.length][task.place].request
        row: dict[str, Any] = {"fingerprint": task.fingerprint, "request": request, "worker": worker}
        if isinstance(result, Said):
            answer = Answer(
                status="ok", answer=result.answer, predicted=result.predicted, nll=result.nll, text=result.text
            )
            kept = {"answer": _json(result.answer), "predicted": _json(result.predicted), "nll": _json(result.nll)}
            row |= {"status": "ok", "text": result.text} | kept
        else:
            assert isinstance(result, Failure)
            answer = Answer(status=result.status, reason=result.reason)
            row |= {"status": result.status, "reason": result.reason}
        self.store.insert("answers", row | {"finished_at": at})
        self.index.answers[task.fingerprint, request] = answer


def _json(values: Sequence[float] | None) -> str | None:
    return None if values is None else json.dumps(list(values))


def _part(task: Task) -> tuple[Any, ...]:
    """What a cell waits for: all passes under its scheme, or all answers to its prompts."""
    if isinstance(task, PassTask):
        return (task.fingerprint,)
    return (task.fingerprint, task.metric, task.length)


def _part_of(cell: Cell) -> tuple[Any, ...]:
    own = (cell.source.name, cell.length) if isinstance(cell.needs, Prompts) else ()
    return (cell.fingerprint, *own)


def _same(known: StoredPrompt, found: StoredPrompt) -> bool:
    """Whether a prompt is the stored one."""
    return known.request == found.request and known.agrees(found.facts)
