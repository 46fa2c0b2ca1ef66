"""Schemes through the model: rows with different schemes in one batch, document by document, then the probes; those
that are fed only the last tokens, window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.metrics.readings import Reading, fed_ids
from ropewalk.metrics.requests import Forced
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, Answers, Failure, NllRow, Split, score, score_shared
from ropewalk.tuning.objective import Outcome

Losses = NDArray[np.float32] | Failure
"""Nats per token `[T - 1]`, or why there are none."""
Found = dict[tuple[int, int], Answers | Failure]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """A model with what it is measured on.

    Attributes:
        batch: positions per forward pass.
        documents: token ids, int32 `[T]` each; of several windows one after the other.
        windows: of each document.
        bos_id: what stands before a text that begins in the middle of a document; None for nothing.
        trials: probes by length; empty if they do not count.
    """

    model: Any
    parts: Split
    batch: int
    documents: tuple[NDArray[np.int32], ...]
    windows: int = 1
    bos_id: int | None = None
    trials: Mapping[int, Sequence[Forced]] = field(default_factory=dict)

    def losses(self, schemes: Sequence[Scheme], document: int) -> list[Losses]:
        """Token losses of one document under each scheme, float32 `[T - 1]`, nats."""
        ids = self.documents[document]
        whole = [i for i, scheme in enumerate(schemes) if scheme.context is None]
        rows = self._scored([NllRow(ids=ids, scheme=schemes[i]) for i in whole])
        found = dict(zip(whole, rows, strict=True))
        return [found[i] if i in found else self._cut_losses(scheme, ids) for i, scheme in enumerate(schemes)]

    def _cut_losses(self, scheme: Scheme, ids: NDArray[np.int32]) -> Losses:
        """Losses of a document of which only the last tokens are fed: each token sees half of them at least."""
        readings = windows(len(ids), scheme.context or len(ids))
        rows = [
            NllRow(ids=fed_ids(ids, r.start, r.high, self.bos_id if r.bos else None), scheme=scheme.fed)
            for r in readings
        ]
        losses = np.empty(len(ids) - 1, dtype=np.float32)
        for reading, outcome in zip(readings, self._scored(rows), strict=True):
            if isinstance(outcome, Failure):
                return outcome
            losses[reading.low - 1 : reading.high - 1] = outcome[-(reading.high - reading.low) :]
        return losses

    def _scored(self, rows: Sequence[NllRow]) -> list[Any]:
        found: list[Any] = [None] * len(rows)
        for batch in score(self.model, self.parts, rows, self.batch) if rows else ():
            for index, outcome in batch:
                found[index] = outcome
        return found

    def answers(self, schemes: Sequence[Scheme]) -> list[Found]:
        """The answer to every trial under each scheme, by (length, trial)."""
        wanted = [(i, n, t) for i in range(len(schemes)) for n in self.trials for t in range(len(self.trials[n]))]
        rows = [self._answer_row(schemes[i], self.trials[n][t]) for i, n, t in wanted]
        found: list[dict[tuple[int, int], Any]] = [{} for _ in schemes]
        for batch in score_shared(self.model, self.parts, rows, self.batch) if rows else ():
            for index, outcome in batch:
                i, n, t = wanted[index]
                found[i][n, t] = outcome
        return found

    def _answer_row(self, scheme: Scheme, trial: Forced) -> AnswerRow:
        """A prompt, or the last tokens of it that its scheme is fed."""
        ids = trial.ids if scheme.context is None else trial.ids[-scheme.context :]
        if self.bos_id is not None and len(ids) < len(trial.ids):
            ids = np.append(np.array([self.bos_id], dtype=np.int32), ids[1:])
        return AnswerRow(ids=ids, scheme=scheme.fed, answer_tokens=trial.answer_tokens)

    def outcomes(self, schemes: Sequence[Scheme], window: int, short: Sequence[int]) -> list[Outcome | str]:
        """What each scheme did, a document's windows as one mean; a reason where it has no losses.

        Args:
            schemes: to be measured.
            window: tokens; losses from this position on are long.
            short: prefixes, tokens, whose losses are short.
        """
        by_row = [self.losses(schemes, row) for row in range(len(self.documents))]
        answers = self.answers(schemes)
        return [self._outcome([row[i] for row in by_row], answers[i], window, short) for i in range(len(schemes))]

    def _outcome(self, losses: Sequence[Losses], answers: Found, window: int, short: Sequence[int]) -> Outcome | str:
        failed = next((each.reason for each in (*losses, *answers.values()) if isinstance(each, Failure)), None)
        if failed is not None:
            return failed
        rows = np.stack([each for each in losses if isinstance(each, np.ndarray)]).astype(np.float64)
        rows_DWT = rows.reshape(-1, self.windows, rows.shape[1])
        return Outcome(
            long_D=tuple(float(each.mean()) for each in rows_DWT[:, :, window - 1 :]),
            short_DL=tuple(tuple(float(each[:, : n - 1].mean()) for n in short) for each in rows_DWT),
            retrieval_P=tuple(float(np.mean(each.nll)) for each in answers.values() if isinstance(each, Answers)),
        )


def windows(length: int, context: int) -> list[Reading]:
    """All tokens after the first in blocks of half the context, each fed the context that ends with it."""
    block, first = max(1, context // 2), min(context, length)
    readings = [Reading(start=0, low=1, high=first)]
    for low in range(first, length, block):
        high = min(low + block, length)
        readings.append(Reading(start=max(0, high - context), low=low, high=high, bos=high > context))
    return readings
