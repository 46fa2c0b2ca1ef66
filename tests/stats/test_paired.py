"""Paired comparisons against scipy and closed forms, Holm against the textbook."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ropewalk.stats.intervals import Interval
from ropewalk.stats.paired import holm, mcnemar_exact, paired_ratio, paired_t
from ropewalk.stats.pooled import ratio_interval

A = np.array([2.31, 2.87, 1.94, 3.02, 2.55, 2.48, 2.71, 2.09])
B = np.array([2.25, 2.91, 1.90, 2.88, 2.49, 2.47, 2.60, 2.05])
ROUNDING = 1e-11


def test_paired_t_of_symmetric_differences_is_scipys() -> None:
    even = A - 0.05 - np.array([-0.09, -0.04, -0.01, -0.005, 0.005, 0.01, 0.04, 0.09])
    want = stats.ttest_rel(A, even)
    ends = want.confidence_interval(0.95)
    got = paired_t(A, even)
    assert got.p == pytest.approx(want.pvalue, rel=1e-6)
    assert (got.interval.low, got.interval.high) == pytest.approx((ends.low, ends.high), rel=1e-6)
    assert got.p != pytest.approx(stats.ttest_rel(A * 1.001, even).pvalue, rel=1e-6)


def by_hand(differences: np.ndarray) -> tuple[float, float]:
    """t of a positive mean, and the c with c + |g| (1 + 2 c^2) / (4 sqrt n) = t, from the raw moments."""
    root = math.sqrt(differences.size)
    t = differences.mean() / differences.std(ddof=1) * root
    a = abs(float(stats.skew(differences, bias=False))) / root
    return t, float(max(np.roots([a / 2, 1, a / 4 - t]).real))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("far", [0.65, -0.15])
def test_p_is_corrected_where_the_long_tail_points_to_no_difference(sign: int, far: float) -> None:
    """Seven documents agree and one is far off; where it is far off towards 0, t alone says too much."""
    differences = np.array([0.1, 0.12, 0.09, 0.11, 0.1, 0.13, 0.1, far])
    plain, adjusted = by_hand(differences)
    want = 2 * stats.t.sf(plain if far > 0 else adjusted, 7)
    assert paired_t(sign * differences + 2, np.full(8, 2.0)).p == pytest.approx(want, rel=1e-9)


def test_an_interval_is_never_lopsided_without_bound() -> None:
    """However skewed six units are, its longer side is at most sqrt(6/6) * (1 + 2 t^2) / 4 standard errors longer: the
    skewness of n units is at most sqrt(n)."""
    t = float(stats.t.ppf(0.975, 5))
    for far in (0.2, 0.5, 1.0, 5.0, 1e3):
        values = np.array([0.0, 0.1, -0.1, 0.05, -0.05, far])
        got, error = paired_t(values, np.zeros(6)).interval, values.std(ddof=1) / math.sqrt(6)
        assert got.value - got.low == pytest.approx(t * error)
        assert t < (got.high - got.value) / error <= t + (1 + 2 * t * t) / 4 + 1e-9


@given(st.lists(st.integers(-30, 300), min_size=3, max_size=12))
def test_p_and_interval_say_the_same(values: list[int]) -> None:
    got = paired_t(np.array(values) / 100 + 2, np.full(len(values), 2.0))
    if got.p is None or got.interval.low is None or got.interval.high is None or abs(got.p - 0.05) < 1e-9:
        return
    assert (got.p <= 0.05) == (not got.interval.low <= 0 <= got.interval.high)
    plain = stats.ttest_1samp(np.array(values) / 100, 0)
    assert got.p >= plain.pvalue * (1 - 1e-9) or got.p == 1.0


def test_equal_denominators_make_the_perplexity_ratio_a_paired_t() -> None:
    tokens = np.full(8, 511.0)
    got, want = paired_ratio(A * 511, tokens, B * 511, tokens), paired_t(A, B)
    assert got.interval.value == pytest.approx(math.exp(A.mean() - B.mean()), rel=ROUNDING)
    assert got.interval.low == pytest.approx(math.exp(want.interval.low), rel=ROUNDING)
    assert got.p == pytest.approx(want.p, rel=ROUNDING)


def test_shared_key_tokens_make_it_the_pooled_ratio_of_differences() -> None:
    keys = np.array([30.0, 5.0, 0.0, 12.0, 40.0, 9.0, 11.0, 20.0])
    got, want = paired_ratio(A * keys, keys, B * keys, keys), ratio_interval((A - B) * keys, keys).exp()
    assert got.interval.value == pytest.approx(want.value, rel=ROUNDING)
    assert got.interval.low == pytest.approx(want.low, rel=ROUNDING)  # skewed upwards: only the upper end moves
    assert got.interval.high > want.high
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
