"""A run that stops by itself: which outcomes decide, and what every look reads of each configuration; pure.

Whoever leaves, and why the run ended, is computed again from the stored outcomes each time that it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ropewalk.corpus.windows import spread
from ropewalk.errors import ExperimentError
from ropewalk.experiment.plan import Cell, Feed, Plan
from ropewalk.experiment.schema import Experiment
from ropewalk.experiment.todo import Chunk, PassTask, PromptTask, Task
from ropewalk.metrics.metric import Documents, Prompts, Sample
from ropewalk.stats.column import by_weight
from ropewalk.stats.intervals import ALPHA
from ropewalk.stats.measured import NONE, TRUNCATE
from ropewalk.stats.policy import Outcomes, Step, next_step, sentence
from ropewalk.stats.sequential import Look, Standing, looks

Value = Callable[[Cell, int], Sample | None]
"""(a cell, a row of the documents or the place of a prompt) to what it gives there; None if that is not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """What decides when a run stops; recorded with it.

    Attributes:
        column, length: the outcomes that are judged.
        documents, windows: read if nothing ends the run before.
        prompts: of the deciding column; 0 where losses decide.
        alpha: chance of an error over the whole run.
        precision: in per cent of a perplexity, or points of a share; None if the run is not to end for it.
    """

    column: str
    length: int
    documents: int
    windows: int
    prompts: int
    alpha: float = ALPHA
    precision: float | None = None

    @property
    def units(self) -> int:
        return self.prompts or self.documents

    @property
    def schedule(self) -> tuple[Look, ...]:
        """The looks, fixed before the first pass."""
        return looks(self.units, 1 if self.prompts else self.windows)

    def plain(self) -> dict[str, Any]:
        """As JSON values, with the schedule that follows and the order in which units are read."""
        order = "prompts by the reversed bits of their places" if self.prompts else "documents as they are listed"
        return asdict(self) | {"order": order, "looks": [asdict(look) for look in self.schedule]}

    def places(self, needs: Documents | Prompts, look: Look) -> list[int]:
        """Rows of the documents, or places of prompts, that a look reads, ascending."""
        if isinstance(needs, Prompts):
            return sorted(self.order(needs)[: self._part(needs.count, look)])
        windows = self.windows if self.prompts else look.windows
        return [u * self.windows + w for u in range(self._part(self.documents, look)) for w in range(windows)]

    def order(self, needs: Prompts) -> list[int]:
        """Places of prompts in the order in which they are asked: the first few are spread over all."""
        return [needs.first + place for place in spread(needs.count)]

    def _part(self, count: int, look: Look) -> int:
        return math.ceil(count * look.units / self.units)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Where such a run stands.

    Attributes:
        step: the looks that were taken, and who left.
        ended: it is over: nothing more will be asked.
        following: the look that is being read; None where there is none.
    """

    until: Until
    step: Step
    ended: str | None
    following: Look | None

    def look(self, label: str) -> Look | None:
        """The last look that a configuration was read for; None before the first. What others are compared with is
        read for all."""
        left = {each.label: each.look for each in self.step.standing.left}
        return self.step.look if label in (NONE, TRUNCATE) else left.get(label, self.step.look)

    def asked(self, label: str) -> Look | None:
        """The look that a configuration is to be read for: the following one of whoever is in the running."""
        running = self.following is not None and self.ended is None
        if running and label in (NONE, TRUNCATE, *self.step.standing.running):
            return self.following
        return self.look(label)

    def said(self, label: str) -> str | None:
        """Why a configuration was not measured any further; None if it was, or had to be."""
        left = {each.label: each for each in self.step.standing.left}
        return sentence(left[label]) if label in left and label != NONE else None

    def plain(self) -> dict[str, Any]:
        """What reports say of it, as JSON values."""
        look = self.step.look
        return {
            "why": self.ended,
            "of": "prompts" if self.until.prompts else "documents",
            "precision": self.until.precision,
            "look": look and asdict(look),
            "running": list(self.step.standing.running),
            "first": min((each.look.units for each in self.step.standing.left), default=None),
            "left": {each.label: sentence(each) for each in self.step.standing.left},
        }


def until(experiment: Experiment, plan: Plan, windows: int, precision: float | None = None) -> Until:
    """What decides a run: the weightiest loss at the longest length, or what is found there if there are no losses.

    Raises:
        ExperimentError: nothing that every document or prompt has is asked for, or a precision of something that has
            none.
    """
    length = experiment.lengths[-1]
    whole = [c for c in plan.cells if c.source.remark is None and c.source.gather is None]
    cells = {c.metric: c for c in whole if c.length == length and c.label != TRUNCATE}
    if not cells:
        raise ExperimentError(
            "--until decided: needs a number that every document or prompt has at the longest length; add perplexity: "
            "{} to metrics."
        )
    column = by_weight([cell.column for cell in cells.values()])[0]
    if precision is not None and not (column.is_ratio or column.counts):
        raise ExperimentError(
            f"--precision: {column.name} has no natural unit to be precise in; leave --precision out, or add "
            "perplexity: {} to metrics."
        )
    needs = cells[column.name].needs
    return Until(
        column=column.name,
        length=length,
        documents=plan.documents // windows,
        windows=windows,
        prompts=needs.count if isinstance(needs, Prompts) else 0,
        precision=precision,
    )


def decide(plan: Plan, asked: Until, value: Value, failed: Callable[[Cell], bool], ended: str | None) -> State:
    """The state that follows from what is measured.

    Args:
        plan: of the run.
        asked: what decides.
        value: of the deciding cells.
        failed: whether a cell has a pass that did not end well; it takes no part.
        ended: why the run was ended from outside; None if it was not.
    """
    cells = [c for c in plan.cells if c.metric == asked.column and c.length == asked.length and c.label != TRUNCATE]
    cells = [cell for cell in cells if not failed(cell)]
    schedule = asked.schedule
    if not cells:
        step = Step(standing=Standing(running=()), look=schedule[-1], ask=np.empty((0, 3), dtype=np.intp), why=None)
        return State(until=asked, step=step, ended="everything read", following=None)
    step = next_step(
        _outcomes(cells, asked, value), schedule, alpha=asked.alpha, precision=_distance(cells[0], asked.precision)
    )
    after = 0 if step.look is None else schedule.index(step.look) + 1
    following = schedule[after] if step.why is None else None
    return State(until=asked, step=step, ended=step.why or ended, following=following)


def _distance(cell: Cell, precision: float | None) -> float | None:
    """A precision in nats, or as a share."""
    if precision is None:
        return None
    return math.log1p(precision / 100) if cell.column.is_ratio else precision / 100


def _outcomes(cells: Sequence[Cell], asked: Until, value: Value) -> Outcomes:
    needs = cells[0].needs
    windows = 1 if asked.prompts else asked.windows
    order = asked.order(needs) if isinstance(needs, Prompts) else list(range(asked.units * windows))
    pairs = np.full((len(cells), len(order), 2), np.nan)
    for i, cell in enumerate(cells):
        for j, place in enumerate(order):
            sample = value(cell, place)
            if sample is not None:
                pairs[i, j] = sample.numerator, sample.denominator
    pairs = pairs.reshape(len(cells), asked.units, windows, 2)
    return Outcomes(
        column=cells[0].column,
        length=asked.length,
        labels=tuple(cell.label for cell in cells),
        units=tuple(map(str, range(asked.units))),
        numerators_CNW=pairs[..., 0],
        denominators_CNW=pairs[..., 1],
    )


def at_first(plan: Plan, asked: Until) -> State:
    """The state of a run of which nothing is measured."""
    return decide(plan, asked, lambda cell, place: None, lambda cell: False, None)


def only(chunks: Sequence[Chunk], plan: Plan, state: State) -> list[Chunk]:
    """What of the work the looks need: the next one of those in the running and of what they are compared with, and
    what an interruption left out of the last one of those who left."""
    known = {*state.step.standing.running, *(each.label for each in state.step.standing.left), NONE, TRUNCATE}
    rows: dict[Feed, set[int]] = {}
    asked: set[tuple[str, str, int, int]] = set()
    for cell in plan.cells:
        look = state.asked(cell.label) if cell.label in known else None
        if look is None:
            continue
        places = state.until.places(cell.needs, look)
        if isinstance(cell.needs, Prompts):
            asked |= {(cell.fingerprint, cell.source.name, cell.length, place) for place in places}
        for each in cell.readings:
            rows.setdefault(Feed(fingerprint=cell.fingerprint, start=each.start, bos=each.bos), set()).update(places)

    def wanted(task: Task) -> bool:
        if isinstance(task, PassTask):
            return task.document in rows.get(task.feed, ())
        return (task.fingerprint, task.metric, task.length, task.place) in asked

    kept: list[Chunk] = []
    for chunk in chunks:
        passes = tuple(task for task in chunk.tasks if isinstance(task, PassTask) and wanted(task))
        prompts = tuple(task for task in chunk.tasks if isinstance(task, PromptTask) and wanted(task))
        kept += [Chunk(tasks=tasks) for tasks in (passes, prompts) if tasks]
    return kept
