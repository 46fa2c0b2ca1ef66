"""Schemes through the model beside each other: those that are fed only the last tokens, window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.metrics.readings import Reading, fed_ids
from ropewalk.metrics.requests import Forced
from ropewalk.scheme import Scheme
from ropewalk.scoring import Answers, Failure, NllRow, score
from ropewalk.searching.bench import Bench

Found = dict[tuple[int, int], Answers | Failure]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SchemeBench:
    """As a search's bench, of schemes that may cut the context.

    Attributes:
        bos_id: what stands before a text that begins in the middle of a document; None for nothing.
    """

    bench: Bench
    bos_id: int | None

    @property
    def documents(self) -> tuple[NDArray[np.int32], ...]:
        return self.bench.documents

    @property
    def keys(self) -> tuple[NDArray[np.bool_], ...]:
        return self.bench.keys

    @property
    def trials(self) -> Mapping[int, Sequence[Forced]]:
        return self.bench.trials

    def losses(self, rotations: Sequence[Scheme], document: int) -> list[NDArray[np.float32] | Failure]:
        """Token losses of one document under each scheme, float32 `[T - 1]`, nats."""
        whole = [i for i, scheme in enumerate(rotations) if scheme.context is None]
        found = dict(zip(whole, self.bench.losses([rotations[i] for i in whole], document), strict=True))
        return [found[i] if i in found else self._windows(scheme, document) for i, scheme in enumerate(rotations)]

    def answers(self, rotations: Sequence[Scheme]) -> list[Found]:
        """The answer to every trial under each scheme, by (length, trial)."""
        whole = [i for i, scheme in enumerate(rotations) if scheme.context is None]
        found = dict(zip(whole, self.bench.answers([rotations[i] for i in whole]), strict=True))
        return [found[i] if i in found else self._cut(scheme) for i, scheme in enumerate(rotations)]

    def _cut(self, scheme: Scheme) -> Found:
        """Answers to prompts of which only the last tokens are fed."""
        return _cut(self.bench, scheme.context or 0, self.bos_id).answers([scheme.fed])[0]

    def _windows(self, scheme: Scheme, document: int) -> NDArray[np.float32] | Failure:
        """Losses of a document of which only the last tokens are fed: each token sees half of them at least."""
        ids = self.documents[document]
        readings = windows(len(ids), scheme.context or len(ids))
        rows = [
            NllRow(ids=fed_ids(ids, r.start, r.high, self.bos_id if r.bos else None), scheme=scheme.fed)
            for r in readings
        ]
        losses = np.empty(len(ids) - 1, dtype=np.float32)
        for batch in score(self.bench.model, self.bench.parts, rows, self.bench.batch):
            for index, outcome in batch:
                if isinstance(outcome, Failure):
                    return outcome
                assert isinstance(outcome, np.ndarray)
                low, high = readings[index].low, readings[index].high
                losses[low - 1 : high - 1] = outcome[-(high - low) :]
        return losses


def windows(length: int, context: int) -> list[Reading]:
    """All tokens after the first in blocks of half the context, each fed the context that ends with it."""
    block, first = max(1, context // 2), min(context, length)
    readings = [Reading(start=0, low=1, high=first)]
    for low in range(first, length, block):
        high = min(low + block, length)
        readings.append(Reading(start=max(0, high - context), low=low, high=high, bos=high > context))
    return readings


def _cut(bench: Bench, context: int, bos_id: int | None) -> Bench:
    """The same prompts of which only the last tokens are fed."""

    def cut(trial: Forced) -> Forced:
        ids = trial.ids if len(trial.ids) <= context else trial.ids[-context:]
        if bos_id is not None and len(ids) < len(trial.ids):
            ids = np.append(np.array([bos_id], dtype=np.int32), ids[1:])
        return Forced(ids=ids, answer_tokens=trial.answer_tokens)

    trials = {n: [cut(trial) for trial in each] for n, each in bench.trials.items()}
    return Bench(
        model=bench.model,
        parts=bench.parts,
        batch=bench.batch,
        documents=bench.documents,
        keys=bench.keys,
        trials=trials,
    )
