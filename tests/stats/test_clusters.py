"""Windows pooled within documents, and the share of variance between documents, against closed forms."""

import math

import numpy as np
import pytest
from blocks_for_tests import TOKENS, nll_block
from scipy import stats

from ropewalk.stats.clusters import between, clustered
from ropewalk.stats.power import detectable, units_for_width, units_needed, with_windows

SEED = 1905


def drawn(rng: np.random.Generator, share: float, documents: int, windows: int) -> np.ndarray:
    return math.sqrt(share) * rng.standard_normal((documents, 1)) + math.sqrt(1 - share) * rng.standard_normal(
        (documents, windows)
    )


def test_documents_are_the_units() -> None:
    block = nll_block({"a": [1.0, 3.0, 5.0], "b": [2.0, 2.0, 2.0]})
    found = clustered(block, ["x", "y", "x"])
    assert found.units == ("x", "y")
    np.testing.assert_allclose(found.numerators_CN, [[6 * TOKENS, 3 * TOKENS], [4 * TOKENS, 2 * TOKENS]])
    np.testing.assert_array_equal(found.denominators_CN, [[2 * TOKENS, TOKENS]] * 2)
    with pytest.raises(ValueError, match="3 windows need"):
        clustered(block, ["x"])


def test_windows_as_units_would_cover_too_little() -> None:
    rng, covered = np.random.default_rng(SEED), {"windows": 0, "documents": 0}
    for _ in range(400):
        values = 2 + 0.1 * drawn(rng, 0.3, 6, 8)
        block = nll_block({"a": values.ravel().tolist()})
        for name, each in (("windows", block), ("documents", clustered(block, list(np.repeat(list("abcdef"), 8))))):
            ends = each.interval("a")
            covered[name] += ends.low <= 2 <= ends.high
    assert covered["windows"] < 0.85 * 400 < 0.92 * 400 < covered["documents"]


def test_share_and_interval_against_the_f_test() -> None:
    values = drawn(np.random.default_rng(SEED), 0.3, 10, 4)
    f = stats.f_oneway(*values).statistic
    got = between(values)
    assert got.share.value == pytest.approx((f - 1) / (f + 3))
    low, high = f / stats.f.ppf(0.975, 9, 30), f * stats.f.ppf(0.975, 30, 9)
    assert (got.share.low, got.share.high) == pytest.approx((max(0, (low - 1) / (low + 3)), (high - 1) / (high + 3)))
    s = got.share.value
    assert got.worth(8).value == pytest.approx(1 / (s + (1 - s) / 8))
    assert got.worth(1).low == got.worth(1).high == pytest.approx(1)


def test_the_interval_of_the_share_covers_it() -> None:
    rng = np.random.default_rng(SEED + 1)
    found = [between(drawn(rng, 0.3, 8, 4)).share for _ in range(400)]
    assert 0.92 <= np.mean([x.low <= 0.3 <= x.high for x in found]) <= 0.98


@pytest.mark.parametrize("values", [np.ones((3, 2)), np.ones((1, 5)), [[1.0, math.nan], [2.0, 3.0]]])
def test_no_variance_to_share_out(values: object) -> None:
    with pytest.raises(ValueError, match=r"no variance|needs finite values"):
        between(values)


def test_windows_are_worth_documents() -> None:
    """Variance of a document's mean, from draws; and so many documents of one window are as good."""
    rng, share, windows = np.random.default_rng(SEED), 0.2, 8
    means = drawn(rng, share, 20_000, windows).mean(axis=1)
    assert with_windows(1.0, share, windows) == pytest.approx(means.std(), rel=0.02)
    one, eight = (units_needed(0.2, with_windows(1.0, share, w)) for w in (1, windows))
    assert one / eight == pytest.approx(1 / (share + (1 - share) / windows), rel=0.1)
    assert detectable(eight, with_windows(1.0, share, windows)) <= 0.2
    with pytest.raises(ValueError, match=r"between=1\.5"):
        with_windows(1.0, 1.5, 2)


def test_documents_for_a_stated_precision() -> None:
    n = units_for_width(0.01, 0.05)
    reach = [stats.t.ppf(0.975, m - 1) * 0.05 / math.sqrt(m) for m in (n - 1, n)]
    assert reach[1] <= 0.01 < reach[0]
    assert units_for_width(1e-9, 1.0) is None
    with pytest.raises(ValueError, match="half_width=0"):
        units_for_width(0, 1.0)
