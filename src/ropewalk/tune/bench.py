"""Rows through the model: those with gains by weights that hold them, put back afterwards, so that what is judged is
what is served; those that are fed the last tokens only, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.metrics.passkey import Trial
from ropewalk.metrics.readings import Reading, fed_ids
from ropewalk.models.query import Place, folded
from ropewalk.scoring import Answers, Failure, NllRow, score
from ropewalk.searching.bench import Bench
from ropewalk.tune.pairs import Turning
from ropewalk.tune.rows import Row

Found = dict[tuple[int, int], Answers | Failure]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowBench:
    """As a search's bench, of rows.

    Attributes:
        bos_id: what stands before a text that begins in the middle of a document; None for nothing.
    """

    bench: Bench
    turns: Turning
    places: Mapping[int, tuple[Place, ...]]
    bos_id: int | None

    @property
    def documents(self) -> tuple[NDArray[np.int32], ...]:
        return self.bench.documents

    @property
    def keys(self) -> tuple[NDArray[np.bool_], ...]:
        return self.bench.keys

    @property
    def trials(self) -> Mapping[int, Sequence[Trial]]:
        return self.bench.trials

    def losses(self, rotations: Sequence[Row], document: int) -> list[NDArray[np.float32] | Failure]:
        """Token losses of one document under each row, float32 `[T - 1]`, nats."""
        found: dict[int, NDArray[np.float32] | Failure] = {}
        for row, own in _alike(rotations):
            each = [rotations[i].rotation for i in own]
            if row.context is not None:
                found |= {i: self._windows(rotations[i], document) for i in own}
                continue
            with self._holding(row):
                found |= dict(zip(own, self.bench.losses(each, document), strict=True))
        return [found[i] for i in range(len(rotations))]

    def answers(self, rotations: Sequence[Row]) -> list[Found]:
        """The answer to every trial under each row, by (length, trial)."""
        found: dict[int, Found] = {}
        for row, own in _alike(rotations):
            cut = self.bench if row.context is None else _cut(self.bench, row.context, self.bos_id)
            with self._holding(row):
                found |= dict(zip(own, cut.answers([rotations[i].rotation for i in own]), strict=True))
        return [found[i] for i in range(len(rotations))]

    @contextmanager
    def _holding(self, row: Row) -> Iterator[None]:
        if row.gains is None:
            yield
            return
        with held(self.bench.model, self.places, self.turns, row.gains):
            yield

    def _windows(self, row: Row, document: int) -> NDArray[np.float32] | Failure:
        """Losses of a document of which only the last tokens are fed: each token sees half of them at least."""
        ids = self.documents[document]
        readings = windows(len(ids), row.context or len(ids))
        rows = [
            NllRow(ids=fed_ids(ids, r.start, r.high, self.bos_id if r.bos else None), rotation=row.rotation)
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


def _alike(rows: Sequence[Row]) -> list[tuple[Row, list[int]]]:
    """Rows that can share batches, with their indices: those without gains and of the same context."""
    groups: dict[object, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault((row.context, None if row.gains is None else row.fingerprint), []).append(index)
    return [(rows[own[0]], own) for own in groups.values()]


def _cut(bench: Bench, context: int, bos_id: int | None) -> Bench:
    """The same prompts of which only the last tokens are fed."""

    def cut(trial: Trial) -> Trial:
        ids = trial.ids if len(trial.ids) <= context else trial.ids[-context:]
        if bos_id is not None and len(ids) < len(trial.ids):
            ids = np.append(np.array([bos_id], dtype=np.int32), ids[1:])
        return Trial(index=trial.index, key=trial.key, depth=trial.depth, ids=ids, answer_tokens=trial.answer_tokens)

    trials = {n: [cut(trial) for trial in each] for n, each in bench.trials.items()}
    return Bench(
        model=bench.model,
        parts=bench.parts,
        batch=bench.batch,
        documents=bench.documents,
        keys=bench.keys,
        trials=trials,
    )


@contextmanager
def held(
    model: Any, places: Mapping[int, tuple[Place, ...]], turns: Turning, gains_LHP: NDArray[np.float32]
) -> Iterator[None]:
    """The gains in the model's own weights inside the block; the weights as they were, to the bit, after it."""
    parameters = dict(model.named_parameters())
    before: dict[str, torch.Tensor] = {}
    try:
        with torch.no_grad():
            for layer in turns.layers:
                factor_HD = torch.from_numpy(factors(gains_LHP[layer], turns.pairs))
                for place in places[layer]:
                    weight = parameters[place.name]
                    before[place.name] = weight.detach().clone()
                    weight.copy_(folded(weight, place, factor_HD))
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)


def factors(gains_HP: NDArray[np.float32], pairs_D: NDArray[np.int64]) -> NDArray[np.float32]:
    """What each dimension of each head of the query is multiplied by, float32 `[H, D]`."""
    spread = np.exp(gains_HP.astype(np.float64))[:, np.maximum(pairs_D, 0)]
    return np.where(pairs_D >= 0, spread, 1.0).astype(np.float32)
