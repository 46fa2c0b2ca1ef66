"""Do the intervals cover and the tests err as often as they say? Seeds recorded, figures quoted in docs/statistics.md.

Experiments call the public functions, 2,000 each for intervals. The Monte Carlo error of a coverage near .95 is .005.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from blocks_for_tests import nll_block, passkey_block
from scipy import stats

from ropewalk.stats.compare import compare_to
from ropewalk.stats.correlation import spearman
from ropewalk.stats.crossfit import cross_fit
from ropewalk.stats.intervals import Interval, wilson
from ropewalk.stats.paired import mcnemar_exact, paired_ratio, paired_t
from ropewalk.stats.pooled import ratio_interval

EXPERIMENTS = 2000
SEED = 40961
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Mean 0, standard deviation 1."""
    return rng.standard_normal(shape)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Centred lognormal with sigma 0.8, skewness 3.7: a few documents on which a configuration fails far worse."""
    return np.exp(0.8 * rng.standard_normal(shape)) - math.exp(0.32)


def coverage(intervals: list[Interval], truth: float) -> float:
    return float(np.mean([i.low is not None and i.high is not None and i.low <= truth <= i.high for i in intervals]))


@pytest.mark.parametrize(
    ("draw", "n", "low", "high"),
    [
        (normal, 8, 0.93, 0.97),
        (normal, 16, 0.93, 0.97),
        (normal, 50, 0.93, 0.97),
        (skewed, 8, 0.90, 0.94),
        (skewed, 16, 0.91, 0.95),
        (skewed, 50, 0.93, 0.97),
    ],
)
def test_paired_intervals_cover_normal_differences_and_almost_skewed_ones(
    draw: Draw, n: int, low: float, high: float
) -> None:
    a = 2.5 + 0.3 * normal(np.random.default_rng(SEED), (EXPERIMENTS, n))
    b = a - 0.02 - 0.05 * draw(np.random.default_rng(SEED + 1), (EXPERIMENTS, n))
    covered = coverage([paired_t(x, y).interval for x, y in zip(a, b, strict=True)], 0.02)
    assert low <= covered <= high


def equal_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 2047.0)


def key_tokens(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(9, 60, shape).astype(float)


def lognormal_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.ceil(np.exp(3 + 0.9 * rng.standard_normal(shape)))


@pytest.mark.parametrize("n", [8, 16, 50])
@pytest.mark.parametrize("weights", [equal_weights, key_tokens, lognormal_weights])
def test_pooled_ratios_cover_whatever_the_weights(weights: Draw, n: int) -> None:
    rng = np.random.default_rng(SEED + 2)
    y = weights(rng, (EXPERIMENTS, n))
    a = 3.0 + 0.5 * rng.standard_normal((EXPERIMENTS, n))
    b = a - 0.1 - 0.1 * rng.standard_normal((EXPERIMENTS, n))
    assert 0.93 <= coverage([ratio_interval(*row) for row in zip(a * y, y, strict=True)], 3.0) <= 0.97
    ratios = [paired_ratio(xa, w, xb, w).interval for xa, xb, w in zip(a * y, b * y, y, strict=True)]
    assert 0.93 <= coverage(ratios, math.exp(0.1)) <= 0.97


def test_textbook_errors_would_not_cover_unequal_weights() -> None:
    """Why the jackknife: the linearised error with n - 1 degrees of freedom covers .89 at 8 documents."""
    rng = np.random.default_rng(SEED + 3)
    y = lognormal_weights(rng, (20_000, 8))
    x = y * rng.standard_normal(y.shape)
    ratio = x.sum(1) / y.sum(1)
    error = np.sqrt(8 / 7 * ((x - ratio[:, None] * y) ** 2).sum(1)) / y.sum(1)
    assert np.mean(np.abs(ratio) <= stats.t.ppf(0.975, 7) * error) < 0.90


def test_wilson_covers_on_average() -> None:
    """Exactly, by summing over outcomes: .954 averaged over p; single p near 0 and 1 fall to .92."""
    ends = [wilson(found, 20) for found in range(21)]
    covered = [
        sum(stats.binom.pmf(k, 20, p) for k, i in enumerate(ends) if i.low <= p <= i.high)
        for p in np.linspace(0.01, 0.99, 99)
    ]
    assert 0.945 <= np.mean(covered) <= 0.96
    assert min(covered) >= 0.92


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_paired_shares_cover_and_mcnemar_rarely_errs(shared: float) -> None:
    """shared: how often both configurations find or miss a passkey together; .8 and .6 of them are found."""
    rng = np.random.default_rng(SEED + 4)
    trial, own = rng.random((EXPERIMENTS, 20)), rng.random((EXPERIMENTS, 20))
    own = np.where(rng.random(own.shape) < shared, trial, own)
    got = [mcnemar_exact(x < 0.8, y < 0.6) for x, y in zip(trial, own, strict=True)]
    assert 0.93 <= coverage([pair.interval for pair in got], 0.2) <= 0.985
    assert np.mean([mcnemar_exact(x < 0.7, y < 0.7).p <= 0.05 for x, y in zip(trial, own, strict=True)]) <= 0.05


@pytest.mark.parametrize("draw", [normal, skewed])
@pytest.mark.parametrize("n", [8, 16, 50])
def test_no_difference_from_none_no_alarm(draw: Draw, n: int) -> None:
    """12 configurations against `none`, Holm: an alarm in at most 5 % of 500 runs, also of skewed differences."""
    rng = np.random.default_rng(SEED + 5)
    values = 2.5 + 0.3 * rng.standard_normal((500, 1, n)) + 0.05 * draw(rng, (500, 13, n))
    labels = [str(c) for c in range(13)]
    runs = (compare_to(nll_block(dict(zip(labels, run, strict=True))), "0") for run in values)
    assert np.mean([any(row.adjusted_p <= 0.05 for row in rows) for rows in runs]) <= 0.05


@pytest.mark.parametrize(("n", "most"), [(8, 0.23), (16, 0.15), (32, 0.12)])
def test_skewed_configurations_against_an_even_none(n: int, most: float) -> None:
    """12 lognormal differences from `none`, Holm: plain t errs in .41 / .35 / .27 of runs."""
    d = skewed(np.random.default_rng(SEED + 9), (600, 12, n))
    labels = [str(c) for c in range(13)]
    values = np.concatenate([np.full((600, 1, n), 2.5), 2.5 + 0.05 * d], axis=1)
    runs = (compare_to(nll_block(dict(zip(labels, run, strict=True))), "0") for run in values)
    alarms = np.mean([any((row.adjusted_p or 1.0) <= 0.05 for row in rows) for rows in runs])
    assert alarms <= most + 2 * math.sqrt(most * (1 - most) / 600)


def test_no_difference_in_passkey_no_alarm() -> None:
    rng = np.random.default_rng(SEED + 6)
    found = (rng.random((300, 13, 20)) < 0.7).astype(float)
    labels = [str(c) for c in range(13)]
    runs = (compare_to(passkey_block(dict(zip(labels, run, strict=True))), "0") for run in found)
    assert np.mean([any(row.adjusted_p <= 0.05 for row in rows) for rows in runs]) <= 0.05


@pytest.mark.parametrize("configurations", [8, 13, 43])
def test_spearman_covers(configurations: int) -> None:
    rng = np.random.default_rng(SEED + 7)
    a, b = rng.standard_normal((2, 1000, configurations))
    got = [spearman(x, 0.6 * x + 0.8 * y) for x, y in zip(a, b, strict=True)]
    truth = 6 / math.pi * math.asin(0.3)  # of a bivariate normal with Pearson's r = 0.6
    assert 0.94 <= coverage([i for i in got if i is not None and i.low is not None], truth) <= 0.975


@pytest.mark.parametrize(("draw", "low", "high"), [(normal, 0.93, 0.97), (skewed, 0.93, 0.97)])
@pytest.mark.parametrize("n", [8, 16, 50])
def test_held_out_interval_covers(draw: Draw, low: float, high: float, n: int) -> None:
    """The held-out value of the best of 10 configurations that do not differ."""
    rng = np.random.default_rng(SEED + 8)
    labels = [str(c) for c in range(10)]
    values = 2.5 + 0.3 * rng.standard_normal((500, 1, n)) + 0.05 * draw(rng, (500, 10, n))
    fits = (cross_fit(nll_block(dict(zip(labels, run, strict=True))), {"yarn": labels}) for run in values)
    assert low <= coverage([fit.methods[0].held_out for fit in fits if fit is not None], 2.5) <= high
