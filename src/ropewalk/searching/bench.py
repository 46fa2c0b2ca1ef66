"""Candidates through the model: rows with different rotations in one batch, document by document, then the probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.metrics.requests import Forced
from ropewalk.models.patch import as_schemes
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, Answers, Failure, NllRow, Split, score, score_shared
from ropewalk.searching.objective import Outcome

Leaves = Callable[[Outcome], bool]
"""Whether a candidate need not be measured any further."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """A model with what it is measured on.

    Attributes:
        batch: positions per forward pass.
        documents: token ids, int32 `[T]` each; of several windows one after the other.
        windows: of each document.
        keys: which scored tokens are key, bool `[T - 1]` per document; empty if they do not count.
        trials: probes by length; empty if they do not count.
    """

    model: Any
    parts: Split
    batch: int
    documents: tuple[NDArray[np.int32], ...]
    windows: int = 1
    keys: tuple[NDArray[np.bool_], ...] = ()
    trials: Mapping[int, Sequence[Forced]] = field(default_factory=dict)

    def losses(self, rotations: Sequence[Rotation | Scheme], document: int) -> list[NDArray[np.float32] | Failure]:
        """Token losses of one document under each rotation, float32 `[T - 1]`, nats."""
        rows = [NllRow(ids=self.documents[document], scheme=scheme) for scheme in as_schemes(rotations)]
        found: list[Any] = [None] * len(rows)
        for batch in score(self.model, self.parts, rows, self.batch):
            for index, outcome in batch:
                found[index] = outcome
        return found

    def answers(self, rotations: Sequence[Rotation | Scheme]) -> list[dict[tuple[int, int], Answers | Failure]]:
        """The answer to every trial under each rotation, by (length, trial)."""
        schemes = as_schemes(rotations)
        wanted = [(i, n, t) for i in range(len(rotations)) for n in self.trials for t in range(len(self.trials[n]))]
        rows = [
            AnswerRow(
                ids=self.trials[n][t].ids,
                scheme=schemes[i],
                answer_tokens=self.trials[n][t].answer_tokens,
            )
            for i, n, t in wanted
        ]
        found: list[dict[tuple[int, int], Any]] = [{} for _ in rotations]
        for batch in score_shared(self.model, self.parts, rows, self.batch) if rows else ():
            for index, outcome in batch:
                i, n, t = wanted[index]
                found[i][n, t] = outcome
        return found

    def outcomes(
        self, rotations: Sequence[Rotation | Scheme], window: int, short: Sequence[int], leaves: Leaves | None = None
    ) -> list[Outcome | str]:
        """What each rotation did, a document's windows as one mean; a reason where it has no losses.

        Args:
            rotations: the candidates.
            window: tokens; losses from this position on are long.
            short: prefixes, tokens, whose losses are short.
            leaves: asked after every document, but not where nothing comes after it.
        """
        grown: list[Outcome | str] = [Outcome(long_D=(), short_DL=()) for _ in rotations]
        running = list(range(len(rotations)))
        for first in range(0, len(self.documents), self.windows):
            rows = range(first, first + self.windows)
            losses = zip(*(self.losses([rotations[i] for i in running], row) for row in rows), strict=True)
            for index, each in zip(running, losses, strict=True):
                grown[index] = self._grow(grown[index], each, rows, window, short)
            more = rows.stop < len(self.documents) or self.trials
            running = [i for i in running if _runs(grown[i], leaves if more else None)]
        if self.trials:
            for index, answers in zip(running, self.answers([rotations[i] for i in running]), strict=True):
                grown[index] = _with_answers(grown[index], answers)
        return grown

    def _grow(
        self,
        outcome: Outcome | str,
        losses: Sequence[NDArray[np.float32] | Failure],
        rows: Sequence[int],
        window: int,
        short: Sequence[int],
    ) -> Outcome | str:
        assert isinstance(outcome, Outcome)
        failed = next((each.reason for each in losses if isinstance(each, Failure)), None)
        if failed is not None:
            return failed
        values_WT = np.stack([each for each in losses if isinstance(each, np.ndarray)]).astype(np.float64)
        keys = outcome.keys_D
        if self.keys:
            masks_WT = np.stack([self.keys[row][: values_WT.shape[1]] for row in rows])
            beyond = values_WT[:, window - 1 :][masks_WT[:, window - 1 :]]
            keys = (*keys, (float(beyond.sum()), len(beyond)))
        return Outcome(
            long_D=(*outcome.long_D, float(values_WT[:, window - 1 :].mean())),
            short_DL=(*outcome.short_DL, tuple(float(values_WT[:, : n - 1].mean()) for n in short)),
            keys_D=keys,
        )


def _runs(outcome: Outcome | str, leaves: Leaves | None) -> bool:
    return isinstance(outcome, Outcome) and not (leaves is not None and leaves(outcome))


def _with_answers(outcome: Outcome | str, answers: Mapping[tuple[int, int], Answers | Failure]) -> Outcome | str:
    assert isinstance(outcome, Outcome)
    failed = next((each.reason for each in answers.values() if isinstance(each, Failure)), None)
    if failed is not None:
        return failed
    losses = tuple(float(np.mean(each.nll)) for each in answers.values() if isinstance(each, Answers))
    return Outcome(long_D=outcome.long_D, short_DL=outcome.short_DL, keys_D=outcome.keys_D, retrieval_P=losses)
