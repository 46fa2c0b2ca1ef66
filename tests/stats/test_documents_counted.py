"""Windows of one document are one document wherever a number of documents is said."""

from __future__ import annotations

import pytest

from ropewalk.stats.measured import Measured

WINDOWS = [{"id": "a@0", "cluster": "a"}, {"id": "a@900", "cluster": "a"}, {"id": "b@0", "cluster": "b"}]


@pytest.mark.parametrize(("found", "count"), [(WINDOWS, 2), ([{"id": "a"}, {"id": "b"}], 2), (None, 0)])
def test_windows_are_no_documents(found, count):
    assert Measured(rows=(), blocks={}, meta={"documents": found}, columns={}).documents == count
