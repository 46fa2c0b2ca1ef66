"""Intervals against scipy and closed forms; each tolerance has a twin that shows a 0.1 % change breaks it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ropewalk.stats.intervals import Interval, wilson
from ropewalk.stats.pooled import ratio_interval

NLL = np.array([2.31, 2.87, 1.94, 3.02, 2.55, 2.48, 2.71, 2.09])
ROUNDING = 1e-12


def test_equal_denominators_give_the_t_interval_of_the_mean() -> None:
    got = ratio_interval(NLL * 511, np.full(8, 511.0))
    low, high = stats.t.interval(0.95, 7, loc=NLL.mean(), scale=stats.sem(NLL))
    assert (got.value, got.low, got.high) == pytest.approx((NLL.mean(), low, high), rel=ROUNDING)
    assert got.n == 8
    twin = stats.t.interval(0.95, 7, loc=NLL.mean(), scale=stats.sem(NLL) * 1.001)
    assert got.low != pytest.approx(twin[0], rel=ROUNDING)


def test_pooled_ratio_weights_by_denominator_and_leaves_one_out() -> None:
    x, y = np.array([20.0, 90.0, 31.0, 12.0]), np.array([10.0, 30.0, 12.0, 5.0])
    without = np.array([(x.sum() - x[i]) / (y.sum() - y[i]) for i in range(4)])
    ratio, effective = 153 / 57, 57**2 / (100 + 900 + 144 + 25)
    standard_error = math.sqrt(3 / 4 * sum((without - ratio) ** 2))
    got = ratio_interval(x, y, confidence=0.9)
    assert got.value == pytest.approx(ratio, rel=ROUNDING)
    assert got.high == pytest.approx(ratio + stats.t.ppf(0.95, effective - 1) * standard_error, rel=ROUNDING)
    assert got.high != pytest.approx(ratio + stats.t.ppf(0.95, 3) * standard_error, rel=1e-3)
    assert got.value != pytest.approx((x / y).mean(), rel=1e-3)


def test_one_document_with_nearly_all_key_tokens_leaves_one_degree_of_freedom() -> None:
    got = ratio_interval([200.0, 3.0], [100.0, 1.0])
    assert got.high == pytest.approx(
        got.value + stats.t.ppf(0.975, 1) * math.sqrt(((3 - got.value) ** 2 + (2 - got.value) ** 2) / 2)
    )


def test_documents_without_key_tokens_do_not_count() -> None:
    assert ratio_interval([20.0, 0.0, 31.0], [10.0, 0.0, 12.0]) == ratio_interval([20.0, 31.0], [10.0, 12.0])


def test_perplexity_is_the_exponential_of_all_three() -> None:
    nll = ratio_interval(NLL, np.ones(8))
    assert nll.low is not None
    assert nll.exp().low == math.exp(nll.low)
    assert nll.exp().value == math.exp(nll.value)
    assert Interval(value=800.0, low=None, high=None, n=1).exp().value == math.inf


@pytest.mark.parametrize("values", [[2.5], [2.5, 2.5, 2.5], [0.1] * 8, [0.0, 0.0]])
def test_no_spread_no_interval(values: list[float]) -> None:
    got = ratio_interval(values, [1.0] * len(values))
    assert got == Interval(value=pytest.approx(values[0]), low=None, high=None, n=len(values))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([], [], "numerators must be a list of at least one number"),
        ([1.0, math.nan], [1.0, 1.0], r"numerators\[1\]=nan is not finite; leave such a cell out"),
        ([1.0, math.inf], [1.0, 1.0], r"numerators\[1\]=inf"),
        ([1.0], [math.inf], r"denominators\[0\]=inf"),
        ([1.0, 2.0], [1.0], "equally long, got 2 and 1"),
        ([1.0, 2.0], [1.0, 0.0], "unit 1 has numerator 2.0 over denominator 0.0"),
        (
            [1.0, 2.0],
            [-1.0, 1.0],
            "over denominator -1.0; a denominator must be > 0, or 0 together with its numerator$",
        ),
        (
            [0.0, 0.0],
            [0.0, 0.0],
            "every denominator is 0, so there is no ratio; give such a cell no value and a reason$",
        ),
    ],
)
def test_what_cannot_be_a_ratio_is_refused(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_interval(x, y)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (20, 20), (13, 20), (1, 1), (0, 1), (417, 1000)])
def test_wilson_is_the_closed_form(successes: int, n: int) -> None:
    z, p = 1.959963984540054, successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    got = wilson(successes, n)
    assert (got.low, got.high) == pytest.approx((centre - reach, centre + reach), abs=ROUNDING)
    assert got.high != pytest.approx(centre + reach * 1.001, abs=ROUNDING)


@pytest.mark.parametrize(("successes", "n", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (0, 0, 0.95), (1, 5, 1.0)])
def test_wilson_refuses(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"successes=|confidence="):
        wilson(successes, n, confidence)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), st.floats(1e-3, 1e3))
def test_interval_contains_its_value_and_scales(values: list[float], unit: float) -> None:
    got = ratio_interval(values, [unit] * len(values))
    assert (got.low is None) == (got.high is None)
    wider = ratio_interval(values, [unit] * len(values), confidence=0.99)
    assert got.low is None or wider.low <= got.low <= got.value <= got.high <= wider.high


@pytest.mark.parametrize(("low", "high"), [(None, 1.0), (2.0, 3.0), (0.0, 0.5)])
def test_an_interval_that_contradicts_itself_cannot_exist(low: float | None, high: float) -> None:
    with pytest.raises(ValueError, match="interval"):
        Interval(value=1.5 if low != 0.0 else 1.0, low=low, high=high, n=3)
