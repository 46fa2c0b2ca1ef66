"""Stretches of a document: apart, spread, the first included, and those already read are kept."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.corpus.windows import holds, require_windows, windows, windows_within
from ropewalk.errors import CorpusError


@given(st.integers(1, 50), st.integers(0, 49), st.integers(1, 60), st.data())
def test_apart_within_and_kept(longest: int, rest: int, held: int, data: st.DataObject) -> None:
    size = held * longest + rest % longest
    count = data.draw(st.integers(1, held))
    starts = sorted(windows(size, longest, count))
    assert len(starts) == count
    assert windows(size, longest, count)[0] == 0
    assert starts[0] == 0
    assert all(b - a >= longest for a, b in pairwise(starts))
    assert starts[-1] + longest <= size
    if count < held:
        assert windows(size, longest, count + 1)[:count] == windows(size, longest, count)


def test_spread_over_the_document() -> None:
    assert windows(16_000, 1_000, 4) == (0, 8_000, 4_000, 12_000)
    assert windows(17_000, 1_000, 2)[1] >= 8_000
    assert max(windows(16_500, 1_000, 16)) == 15_500
    widest = max(b - a for a, b in pairwise(sorted(windows(300_000, 1_000, 8))))
    assert widest <= 2 * 300_000 / 8


def test_more_than_there_are() -> None:
    assert holds(2_999, 1_000) == 2
    with pytest.raises(ValueError, match=r"1\.\.2"):
        windows(2_999, 1_000, 3)
    with pytest.raises(
        CorpusError, match=r"3 stretches of 1000 tokens do not fit document 'b'.* hold 2; ask for at most"
    ):
        require_windows([("a", 9_000), ("b", 2_999)], 1_000, 3)
    require_windows([("a", 9_000), ("b", 3_000)], 1_000, 3)


def test_a_budget_is_filled_and_not_exceeded() -> None:
    assert windows_within([9_000, 5_500], 1_000, 7_999) == 3
    assert windows_within([9_000, 5_500], 1_000, 10**9) == 5
    with pytest.raises(CorpusError, match=r"allow 2000"):
        windows_within([9_000, 5_500], 1_000, 1_999)
    with pytest.raises(CorpusError, match=r"500 tokens, fewer than"):
        windows_within([9_000, 500], 1_000, 9_000)
