"""The algebra of readings: which token's loss comes from which pass, once each, with how much context."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from units_for_tests import cell_of, sample_of

from ropewalk.metrics.perplexity import (
    PERPLEXITY,
    loss_by_position,
    position_blocks,
    sliding,
    tail,
    tail_tokens,
    whole,
)
from ropewalk.metrics.readings import Reading, cut, fed_ids

lengths = st.integers(4, 3000)


def scored(readings) -> list[int]:
    return [token for reading in readings for token in range(reading.low, reading.high)]


@given(length=lengths)
def test_whole_scores_all_but_the_first(length):
    assert scored(whole(length)) == list(range(1, length))
    assert [(r.start, r.bos) for r in whole(length)] == [(0, False)]


@pytest.mark.parametrize(
    ("length", "expected"), [(4, 1), (7, 1), (8, 2), (2047, 511), (2048, 512), (2052, 512), (131072, 512)]
)
def test_tail_is_the_last_quarter_up_to_512(length, expected):
    assert tail_tokens(length) == expected
    assert scored(tail(length)) == list(range(length - expected, length))
    assert tail(length)[0].start == 0


@given(length=lengths, extra=st.integers(0, 3000), data=st.data())
def test_sliding_scores_every_token_once_with_enough_context(length, extra, data):
    stride = data.draw(st.integers(1, length - 1))
    readings = sliding(length, length + extra, stride)
    assert scored(readings) == list(range(1, length + extra))
    first, *later = readings
    assert (first.start, first.low, first.high, first.bos) == (0, 1, length, False)
    for reading in later:
        assert reading.high - reading.start == length  # a whole window is fed
        assert reading.high - reading.low <= stride  # and only what is new is scored
        assert reading.low - reading.start >= length - stride
        assert reading.bos


def test_a_stride_of_a_whole_window_has_no_context():
    with pytest.raises(ValueError, match=r"^a reading needs 0 <= start < low < high"):
        sliding(8, 16, 8)


def dropping(length, window):
    """The tail where only the last half window is fed."""
    (whole_tail,) = tail(length)
    return cut(whole_tail, max(2, window // 2))


@given(window=st.integers(4, 2000), beyond=st.integers(1, 3000))
def test_truncated_scores_the_tail_with_a_quarter_to_half_window(window, beyond):
    length = window + beyond
    readings = dropping(length, window)
    assert scored(readings) == scored(tail(length))
    for reading in readings:
        assert reading.bos
        assert reading.high - reading.start <= window / 2
        for token in (reading.low, reading.high - 1):
            seen = token - reading.start
            assert window / 4 - 1 <= seen <= window / 2 - 1


def test_truncated_by_hand():
    assert dropping(16, 8) == (
        Reading(start=10, low=12, high=14, bos=True),
        Reading(start=12, low=14, high=16, bos=True),
    )
    assert dropping(8192, 4096) == (Reading(start=8192 - 2048, low=8192 - 512, high=8192, bos=True),)


@pytest.mark.parametrize(("start", "low", "high"), [(-1, 1, 2), (0, 0, 2), (3, 3, 4), (0, 2, 2), (0, 3, 2)])
def test_impossible_readings(start, low, high):
    with pytest.raises(ValueError, match=re.escape(f"low={low}, high={high}")):
        Reading(start=start, low=low, high=high)


def test_take_cuts_out_of_the_pass():
    nll = np.arange(11, 20, dtype=np.float32)  # a pass that starts at 10: the loss of token t is t
    taken = Reading(start=10, low=13, high=16).take(nll)
    assert taken.tolist() == [13, 14, 15]
    assert taken.dtype == np.float64


def test_sums_are_in_double_precision_and_over_all_readings():
    nll = np.full(1000, 16777217 / 16777216, dtype=np.float32)
    nll[0] = 2.0**24
    one = sample_of(cell_of("perplexity", PERPLEXITY, whole(1001)), nll)
    assert (one.numerator, one.denominator) == (2.0**24 + 999 * float(nll[1]), 1000.0)
    parts = (Reading(start=10, low=11, high=13), Reading(start=0, low=1, high=3))
    both = sample_of(cell_of("perplexity", PERPLEXITY, parts), np.arange(11, 20, dtype=np.float32))
    assert (both.numerator, both.denominator) == (11 + 12 + 11 + 12, 4.0)


def test_fed_ids_replace_the_first_by_bos_and_leave_the_document_alone():
    ids = np.arange(10, dtype=np.int32)
    assert fed_ids(ids, 3, 6, None).tolist() == [3, 4, 5]
    assert fed_ids(ids, 3, 6, 99).tolist() == [99, 4, 5]
    assert ids.tolist() == list(range(10))


@given(length=st.integers(2, 200_000))
def test_position_blocks_are_a_partition_that_grows(length):
    blocks = position_blocks(length)
    assert blocks[0][0] == 1
    assert blocks[-1][1] == length
    assert all(low < high for low, high in blocks)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(blocks))
    assert all(high <= max(low + 1, 1.25 * low) for low, high in blocks)


def test_loss_by_position_averages_each_block():
    nll = np.arange(1, 16, dtype=np.float32)  # the loss of token t is t
    for low, high, mean in loss_by_position(nll):
        assert mean == pytest.approx(np.arange(low, high).mean(), rel=1e-12)
    assert loss_by_position(nll)[-1][1] == 16
