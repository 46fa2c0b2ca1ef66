"""Several windows of each document are tuned on and judged as one document."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk.experiment.prepare import prepare
from ropewalk.tuning.asked import Request, checked, tuning

REQUEST = Request(length=256, steps=1)


@pytest.fixture
def found(asked: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of a document that is read in one piece, only a beginning of one length would be read."""
    monkeypatch.setattr("ropewalk.tuning.asked.REACH", 1)
    documents = dict(asked.documents) | {"windows": 2}
    known = checked(asked.model_copy(update={"documents": documents}), REQUEST, None)
    return tuning(prepare(known), REQUEST)


def test_sides_are_documents_rows_their_windows_and_steps_see_whole_documents(found: Any) -> None:
    parts, tokens = found.scene.parts, found.scene.prepared.tokens
    assert found.documents == (3, 3)
    assert (len(parts.search), len(parts.judge)) == (6, 6)
    furthest = [max(tokens[i].start for i in parts.search[d : d + 2]) for d in (0, 2, 4)]
    assert [len(each) >= start + 255 for each, start in zip(found.material.documents, furthest, strict=True)] == [
        True
    ] * 3
