"""A loaded model that turns chunks into outcomes; it knows nothing of where they are stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.experiment.prepare import Prepared, encoder, prompts, versions
from ropewalk.experiment.todo import Chunk, PassTask, PromptTask, Task, of_set
from ropewalk.metrics.metric import Prompt
from ropewalk.metrics.readings import fed_ids
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.scoring import AnswerRow, Answers, Failure, NllRow, Split, fast, score, score_shared, split
from ropewalk.scoring.budget import batch_tokens, pays_to_compile
from ropewalk.scoring.decoding import PromptRow, generate_shared
from ropewalk.scoring.going_on import GoingOn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """An answer with its text; see `OfPrompt`."""

    answer: list[int] | None
    predicted: list[int]
    nll: list[float] | None
    text: str


Result = NDArray[np.float32] | Said | Failure
"""The losses of a pass `[T - 1]`, an answer, or why there is neither."""


@dataclass(slots=True, eq=False)
class Worker:
    """A model with the experiment that it is to measure.

    Attributes:
        parts: the model taken apart, as it scores.
        budget: positions per batch.
        exact: one row at a time, and no beginnings shared.
    """

    prepared: Prepared
    parts: Split
    budget: int
    exact: bool = False
    _prompts: dict[tuple[str, int], Sequence[Prompt]] = field(default_factory=dict)

    @property
    def rows_at_once(self) -> int:
        """Positions per batch of whole rows; 1 where rows go through alone."""
        return self.budget if self.parts.rows else 1

    @property
    def facts(self) -> dict[str, Any]:
        """Who measures: device, attention kernel, versions."""
        attention = "eager" if self.exact else self.parts.attention
        device = self.prepared.model.provenance.device
        return {"device": device, "attention": attention, "versions": dict(versions())}

    def prompts(self, metric: str, length: int) -> Sequence[Prompt]:
        """The prompts of a metric at a length, made once."""
        if (metric, length) not in self._prompts:
            self._prompts[metric, length] = prompts(self.prepared, metric, length)
        return self._prompts[metric, length]

    def prompt(self, task: PromptTask) -> Prompt:
        return self.prompts(task.metric, task.length)[task.place]

    def run(self, chunk: Chunk) -> Iterator[list[tuple[Task, Result]]]:
        """Outcomes, batch by batch, as they come."""
        documents = [task for task in chunk.tasks if isinstance(task, PassTask)]
        asked = [task for task in chunk.tasks if isinstance(task, PromptTask)]
        fed = [task for task in asked if isinstance(self.prompt(task).request, Forced)]
        said = [task for task in asked if isinstance(self.prompt(task).request, Generated)]
        yield from self._losses(documents)
        yield from self._prompted(fed, said)

    def _losses(self, tasks: Sequence[PassTask]) -> Iterator[list[tuple[Task, Result]]]:
        rows = [self.row(task) for task in tasks]
        for batch in score(self.prepared.model.model, self.parts, rows, self.budget) if rows else ():
            yield [(tasks[index], _plain(outcome)) for index, outcome in batch]

    def row(self, task: PassTask) -> NllRow:
        """What a pass is fed."""
        tokens = self.prepared.tokens[task.document]
        bos_id = self.prepared.model.tokenizer.bos_token_id if task.feed.bos and tokens.bos else None
        ids = fed_ids(tokens.ids, task.feed.start, task.stop, bos_id)
        return NllRow(ids=ids, scheme=self.prepared.plan.schemes[task.fingerprint])

    def answer_row(self, task: PromptTask) -> AnswerRow:
        """What a prompt is fed, its answer included."""
        request = self.prompt(task).request
        assert isinstance(request, Forced)
        scheme = self.prepared.plan.schemes[task.fingerprint]
        return AnswerRow(ids=request.ids, scheme=scheme, answer_tokens=request.answer_tokens)

    def forced(self) -> list[PromptTask]:
        """Every prompt of the plan whose answer is fed in, whether it is answered already or not."""
        return [task for each in self.prepared.plan.prompts if not each.prompts.new_tokens for task in of_set(each)]

    def _prompted(self, fed: Sequence[PromptTask], said: Sequence[PromptTask]) -> Iterator[list[tuple[Task, Result]]]:
        """Answers that are fed in, then those that the model gives by itself, after the same prefill where both are
        asked of a prompt."""
        model, rows = self.prepared.model.model, [self.prompt_row(task) for task in said]
        after = GoingOn(model=model, parts=self.parts, rows=rows, decode=self._decode)
        left = set(said)
        for batch in chain(self._answers(fed, after if rows else None), [[]]):
            new: list[tuple[Task, Result]] = [(said[index], self.told(tokens)) for index, tokens in after.said()]
            left -= {task for task, _ in new}
            yield from (part for part in (batch, new) if part)
        yield from self._generated([task for task in said if task in left])

    def _answers(
        self, tasks: Sequence[PromptTask], after: GoingOn | None = None
    ) -> Iterator[list[tuple[Task, Result]]]:
        """Answers that are fed in, in batches that share the beginnings of their prompts."""
        if not tasks:
            return
        model = self.prepared.model.model
        if self.exact:
            every = list(tasks)
            batches = score(model, self.parts, [self.answer_row(task) for task in every], self.budget)
        else:
            every = self.forced()
            wanted = set(tasks)
            left = [index for index, task in enumerate(every) if task in wanted]
            rows = [self.answer_row(task) for task in every]
            batches = score_shared(model, self.parts, rows, self.budget, left, after)
        for batch in batches:
            yield [(every[index], self.said(every[index], outcome)) for index, outcome in batch]

    def said(self, task: PromptTask, outcome: Any) -> Said | Failure:
        """An answer as it is stored."""
        if not isinstance(outcome, Answers):
            assert isinstance(outcome, Failure)
            return outcome
        request = self.prompt(task).request
        assert isinstance(request, Forced)
        predicted = outcome.predicted.tolist()
        text = said(self.prepared.model.tokenizer, request.answer, predicted)
        return Said(answer=request.answer, predicted=predicted, nll=[float(value) for value in outcome.nll], text=text)

    def _generated(self, tasks: Sequence[PromptTask]) -> Iterator[list[tuple[Task, Result]]]:
        """Answers that the model gives by itself, in batches that share the beginnings of their prompts."""
        rows = [self.prompt_row(task) for task in tasks]
        model = self.prepared.model.model
        for batch in generate_shared(model, self.parts, rows, self.budget, self._decode) if rows else ():
            yield [(tasks[index], self.told(new)) for index, new in batch]

    def prompt_row(self, task: PromptTask) -> PromptRow:
        """What a prompt that is to be gone on with is fed."""
        request = self.prompt(task).request
        assert isinstance(request, Generated)
        scheme = self.prepared.plan.schemes[task.fingerprint]
        return PromptRow(ids=request.ids, scheme=scheme, new_tokens=request.new_tokens, stop=request.stop)

    def generated(self, task: PromptTask) -> Said | Failure:
        """What the model goes on to say after one prompt."""
        ((_, found),) = next(self._generated([task]))
        assert isinstance(found, Said | Failure)
        return found

    def told(self, new: Any) -> Said | Failure:
        """New tokens as they are stored."""
        if isinstance(new, Failure):
            return new
        tokens = new.tolist()
        return Said(answer=None, predicted=tokens, nll=None, text=self._decode(tokens))

    def _decode(self, tokens: Sequence[int]) -> str:
        return said(self.prepared.model.tokenizer, None, list(tokens))


def _plain(outcome: Any) -> NDArray[np.float32] | Failure:
    """The losses `[T - 1]` of a row that has no answers."""
    assert isinstance(outcome, np.ndarray | Failure)
    return outcome


def said(tokenizer: Any, answer: list[int] | None, predicted: list[int]) -> str:
    """The stored `text`: of generated tokens what they say; of predictions what the last adds to the text of the
    answer (some tokenizers drop a lone token's leading space)."""
    if answer is None:
        return str(tokenizer.decode(predicted, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    whole, before = (
        str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)) for ids in ([*answer, predicted[-1]], answer)
    )
    return whole[len(before) :]


@contextlib.contextmanager
def ready(prepared: Prepared, *, exact: bool) -> Iterator[Worker]:
    """A worker whose model scores as fast as it may inside the block."""
    model, parts = prepared.model.model, split(prepared.model.model)
    longest = prepared.asked.experiment.lengths[-1]
    budget = 1 if exact else batch_tokens(model, longest)
    compiled = pays_to_compile(model, prepared.plan.tokens)
    with contextlib.nullcontext(parts) if exact else fast(model, parts, compiled=compiled, longest=longest) as as_fast:
        yield Worker(prepared, as_fast, budget, exact)


__all__ = ["Result", "Said", "Worker", "encoder", "ready", "said"]
