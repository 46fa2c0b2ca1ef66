"""Paired comparisons against scipy and closed forms, Holm against the textbook."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ropewalk.stats import Interval, holm, mcnemar_exact, paired_ratio, paired_t, ratio_interval

A = np.array([2.31, 2.87, 1.94, 3.02, 2.55, 2.48, 2.71, 2.09])
B = np.array([2.25, 2.91, 1.90, 2.88, 2.49, 2.47, 2.60, 2.05])
ROUNDING = 1e-11


def test_paired_t_is_scipys() -> None:
    want = stats.ttest_rel(A, B)
    ends = want.confidence_interval(0.95)
    got = paired_t(A, B)
    assert got.p == pytest.approx(want.pvalue, rel=ROUNDING)
    assert (got.interval.low, got.interval.high) == pytest.approx((ends.low, ends.high), rel=ROUNDING)
    assert got.p != pytest.approx(stats.ttest_rel(A * 1.001, B).pvalue, rel=ROUNDING)


def test_equal_denominators_make_the_perplexity_ratio_a_paired_t() -> None:
    tokens = np.full(8, 511.0)
    got, want = paired_ratio(A * 511, tokens, B * 511, tokens), paired_t(A, B)
    assert got.interval.value == pytest.approx(math.exp(A.mean() - B.mean()), rel=ROUNDING)
    assert got.interval.low == pytest.approx(math.exp(want.interval.low), rel=ROUNDING)
    assert got.p == pytest.approx(want.p, rel=ROUNDING)


def test_shared_key_tokens_make_it_the_pooled_ratio_of_differences() -> None:
    keys = np.array([30.0, 5.0, 0.0, 12.0, 40.0, 9.0, 11.0, 20.0])
    got, want = paired_ratio(A * keys, keys, B * keys, keys), ratio_interval((A - B) * keys, keys).exp()
    assert (got.interval.value, got.interval.low, got.interval.high) == pytest.approx(
        (want.value, want.low, want.high), rel=ROUNDING
    )
    assert got.interval.n == want.n == 7
    assert got.interval.value != pytest.approx(math.exp((A - B).mean()), rel=1e-4)


def test_one_measurement_twice_is_no_difference() -> None:
    for got in (paired_t(A, A), paired_ratio(A, np.ones(8), A, np.ones(8))):
        assert got.p == 1.0
        assert got.interval.low == got.interval.value == got.interval.high


@pytest.mark.parametrize(("a", "b"), [([2.0], [1.0]), ([2.0], [2.0]), ([3.0, 4.0, 5.0], [2.0, 3.0, 4.0])])
def test_no_spread_no_test(a: list[float], b: list[float]) -> None:
    got = paired_t(a, b)
    assert got.p is None
    assert got.interval == Interval(value=a[0] - b[0], low=None, high=None, n=len(a))


def _trials(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[int], list[int]]:
    return [1] * (both + only_a) + [0] * (only_b + neither), [1] * both + [0] * only_a + [1] * only_b + [0] * neither


def test_mcnemar_is_the_binomial_of_discordant_trials() -> None:
    got = mcnemar_exact(*_trials(8, 9, 1, 2))
    assert got.p == pytest.approx(2 * (1 + 10) / 2**10, rel=ROUNDING)
    assert got.interval.value == pytest.approx(8 / 20)
    share_a, share_b = 10 / 22, 2 / 22
    reach = 1.959963984540054 * math.sqrt((share_a + share_b - (share_a - share_b) ** 2) / 22)
    assert (got.interval.low, got.interval.high) == pytest.approx((8 / 22 - reach, 8 / 22 + reach), rel=ROUNDING)


def test_mcnemar_at_the_edges() -> None:
    same = mcnemar_exact([1] * 20, [1] * 20)
    assert same.p == 1.0
    assert same.interval.low < 0.0 < same.interval.high
    far = mcnemar_exact([1] * 20, [0] * 20)
    assert far.p == pytest.approx(2 * 0.5**20)
    assert far.interval.high == far.interval.value == 1.0
    assert mcnemar_exact([1], [0]).p == 1.0
    with pytest.raises(ValueError, match="1 for success and 0 for failure"):
        mcnemar_exact([0.5], [1.0])


def test_holm_on_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\].*leave out"):
        holm([0.1, math.nan])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(raw <= a <= min(1.0, raw * len(p)) + 1e-15 for raw, a in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
