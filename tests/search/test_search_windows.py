"""Several windows of each document: both sides keep whole documents, and the document stays the unit."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from search_toys import GENERATION

import ropewalk as rw
from ropewalk.corpus import Document
from ropewalk.errors import ExperimentError
from ropewalk.rope import Rotation
from ropewalk.scoring import Failure
from ropewalk.searching.bench import Bench
from ropewalk.searching.objective import Outcome
from ropewalk.searching.split import Parts, split

ROTATION = Rotation(inv_freq=np.array([1.0]), attention_factor=1.0)
IDS = np.arange(8, dtype=np.int32)


class ByRow(Bench):
    """The loss of every token is the row's number; a fifth row fails."""

    def losses(self, rotations: Any, document: int) -> list[Any]:
        failed = Failure(status="error", reason="too hot")
        return [failed if document == 4 else np.full(7, float(document), np.float32) for _ in rotations]


def by_row(rows: int) -> ByRow:
    """Two windows a document; key tokens are the last of even rows."""
    masks = tuple(np.array([False] * 6 + [row % 2 == 0]) for row in range(rows))
    return ByRow(model=None, parts=None, batch=8, documents=(IDS,) * rows, windows=2, keys=masks)  # type: ignore[arg-type]


def dealt(names: str) -> Parts:
    documents = [
        Document(id=x, title=x, kind="play", text=x, source="", licence="", sha256=sha256(x.encode()).hexdigest())
        for x in names
    ]
    return split(documents, 0, (), 0, 0, 64, None)


def test_windows_of_a_document_are_one_value_and_racing_sees_documents() -> None:
    seen: list[int] = []
    (found,) = by_row(4).outcomes([ROTATION], 4, (4,), lambda each: bool(seen.append(len(each.long_D))))
    assert isinstance(found, Outcome)
    assert found.long_D == (0.5, 2.5)
    assert found.short_DL == ((0.5,), (2.5,))
    assert found.keys_D == ((0.0, 1), (2.0, 1))
    assert seen == [1]


def test_one_window_that_fails_is_the_document_that_fails() -> None:
    assert by_row(6).outcomes([ROTATION], 4, (4,)) == ["too hot"]


def test_no_document_is_on_both_sides() -> None:
    parts = dealt("aabbccdd")
    assert (parts.search, parts.judge) == ((0, 1, 4, 5), (2, 3, 6, 7))
    with pytest.raises(ExperimentError, match="documents: 3 of at least 64 tokens cannot be split"):
        dealt("aaabbbccc")


def test_a_search_reads_them_and_judges_documents(two_arguments: dict[str, Any], tmp_path: Any) -> None:
    documents = two_arguments["documents"] | {"windows": 3}
    short = {"documents": documents, "evaluations": 1 + GENERATION, "repeats": 1}
    found = rw.search(out=tmp_path, **two_arguments | short).result
    assert len(found["split"]["search"]) == len(found["split"]["judge"]) == 3
    assert not set(found["split"]["search"]) & set(found["split"]["judge"])
    against = found["judge"]["against"][found["judge"]["best_named"]]
    assert against["beyond"]["n"] == against["perplexity"]["64"]["n"] == 3
    assert 0 <= found["saving"] < 1
