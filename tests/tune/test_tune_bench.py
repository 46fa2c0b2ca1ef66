"""Documents, windows and probes as one outcome; what is cut to the last tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ropewalk.metrics.requests import Forced
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.scoring import Answers, Failure
from ropewalk.tuning.bench import Bench
from ropewalk.tuning.objective import Outcome

SCHEME, OTHER = (Scheme(rotation=Rotation(inv_freq=np.array([1.0]), attention_factor=a)) for a in (1.0, 2.0))
IDS = np.arange(8, dtype=np.int32)
NOTHING: Any = None


class ByRow(Bench):
    """The loss of every token is the row's number times A; a fifth row fails. Every probe's answer costs 0.5 nats."""

    def losses(self, schemes: Sequence[Scheme], document: int) -> list[Any]:
        failed = Failure(status="error", reason="too hot")
        return [
            failed if document == 4 else np.full(7, document * each.rotation.attention_factor, np.float32)
            for each in schemes
        ]

    def answers(self, schemes: Sequence[Scheme]) -> list[dict[tuple[int, int], Any]]:
        said = Answers(nll=np.array([0.5], np.float32), predicted=np.zeros(2, np.int32))
        return [{(8, t): said for t in range(len(self.trials.get(8, ())))} for _ in schemes]


def by_row(rows: int, trials: int = 0) -> ByRow:
    """Two windows a document."""
    wanted = {8: [NOTHING] * trials} if trials else {}
    return ByRow(model=None, parts=NOTHING, batch=8, documents=(IDS,) * rows, windows=2, trials=wanted)


def test_windows_of_a_document_are_one_value() -> None:
    one, other = by_row(4, trials=3).outcomes([SCHEME, OTHER], 4, (4,))
    assert one == Outcome(long_D=(0.5, 2.5), short_DL=((0.5,), (2.5,)), retrieval_P=(0.5,) * 3)
    assert isinstance(other, Outcome)
    assert other.long_D == (1.0, 5.0)


def test_one_window_that_fails_is_the_document_that_fails() -> None:
    assert by_row(6).outcomes([SCHEME], 4, (4,)) == ["too hot"]


@pytest.mark.parametrize(
    ("context", "bos", "fed"),
    [(None, 9, list(range(8))), (20, 9, list(range(8))), (4, None, [4, 5, 6, 7]), (4, 9, [9, 5, 6, 7])],
)
def test_of_a_prompt_the_last_tokens_are_fed(
    context: int | None, bos: int | None, fed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("ropewalk.tuning.bench.score_shared", lambda model, parts, rows, batch: seen.extend(rows) or ())
    scheme = Scheme(rotation=SCHEME.rotation, context=context)
    trials = {8: [Forced(ids=IDS, answer_tokens=2)]}
    Bench(model=None, parts=NOTHING, batch=8, documents=(IDS,), bos_id=bos, trials=trials).answers([scheme])
    assert [(row.ids.tolist(), row.answer_tokens, row.scheme.context) for row in seen] == [(fed, 2, None)]
