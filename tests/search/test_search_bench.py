"""Which rotations go on to the probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ropewalk.rope import Rotation
from ropewalk.scoring import Answers
from ropewalk.searching.bench import Bench
from ropewalk.searching.objective import Outcome

GOOD, BAD = (Rotation(inv_freq=np.array([1.0]), attention_factor=a) for a in (1.0, 2.0))


class Counted(Bench):
    """Losses are the rotation's A; every probe's answer costs 0.5 nats."""

    def losses(self, rotations: Sequence[Rotation], document: int) -> list[Any]:
        return [np.full(len(self.documents[document]) - 1, r.attention_factor, np.float32) for r in rotations]

    def answers(self, rotations: Sequence[Rotation]) -> list[dict[tuple[int, int], Any]]:
        said = Answers(nll=np.array([0.5], np.float32), predicted=np.zeros(2, np.int32))
        return [{(8, 0): said} for _ in rotations]


def bench(trials: dict[int, Sequence[Any]]) -> Bench:
    ids = np.arange(8, dtype=np.int32)
    return Counted(model=None, parts=None, batch=8, documents=(ids, ids), trials=trials)  # type: ignore[arg-type]


def test_probes_are_spared_where_the_documents_alone_lose() -> None:
    good, bad = bench({8: [None]}).outcomes([GOOD, BAD], 4, (4,), lambda o: len(o.long_D) == 2 and o.long_D[0] > 1)
    assert isinstance(good, Outcome)
    assert isinstance(bad, Outcome)
    assert good.retrieval_P == pytest.approx([0.5])
    assert bad.long_D == (2.0, 2.0)
    assert bad.retrieval_P == ()


def test_without_probes_nobody_leaves_after_the_last_document() -> None:
    seen: list[int] = []
    bench({}).outcomes([GOOD], 4, (4,), lambda o: bool(seen.append(len(o.long_D))))
    assert seen == [1]
