"""Cross-fitted halves: by hand, without luck, and where there is nothing to halve."""

import numpy as np
import pytest
from blocks_for_tests import nll_block, passkey_block

from ropewalk.stats.best import best_set
from ropewalk.stats.crossfit import cross_fit


def test_by_hand() -> None:
    block = nll_block({"none": [3, 3, 3, 3], "a": [1, 4, 1, 4], "b": [4, 2, 4, 2]})
    fit = cross_fit(block, {"none": ["none"], "yarn": ["a", "b"], "absent": ["c"]})
    assert fit is not None
    none, yarn = fit.methods
    assert (none.method, none.optimism, none.chosen) == ("none", 0.0, ("none", "none"))
    assert yarn.chosen == ("a", "b")
    # even documents are judged by b (chosen on odd ones), odd documents by a
    assert fit.block.row("yarn")[0] / 511 == pytest.approx([4, 4, 4, 4])
    assert yarn.held_out.value == pytest.approx(4)
    assert (yarn.best, yarn.in_sample) == ("a", pytest.approx(2.5))
    assert yarn.optimism == pytest.approx(1.5)


def test_passkey_optimism_is_positive_when_it_looked_better() -> None:
    fit = cross_fit(passkey_block({"a": [1, 0, 1, 0], "b": [0, 1, 0, 1]}), {"yarn": ["a", "b"]})
    assert fit is not None
    assert (fit.methods[0].held_out.value, fit.methods[0].in_sample, fit.methods[0].optimism) == (0.0, 0.5, 0.5)


def test_it_removes_the_optimism_of_choosing() -> None:
    rng = np.random.default_rng(11)
    optimism, held_out = [], []
    for _ in range(300):
        document = rng.normal(0, 0.3, 16)
        fit = cross_fit(
            nll_block({str(c): 2 + document + rng.normal(0, 0.2, 16) for c in range(20)}),
            {"m": [str(c) for c in range(20)]},
        )
        assert fit is not None
        optimism.append(fit.methods[0].optimism)
        held_out.append(fit.methods[0].held_out.value - document.mean())
    # no configuration differs from 2.0: choosing claims about 0.2/sqrt(16) * 1.87 less, the held-out value does not
    assert np.mean(held_out) == pytest.approx(2.0, abs=4 * np.std(held_out) / np.sqrt(300))
    assert np.mean(optimism) == pytest.approx(0.0934, abs=4 * np.std(optimism) / np.sqrt(300))


def test_methods_compare_on_held_out_documents() -> None:
    rng = np.random.default_rng(12)
    document = rng.normal(2.5, 0.3, 8)
    block = nll_block(
        {"good": document, "good 2": document + rng.normal(0, 0.01, 8), "bad": document + 1 + rng.normal(0, 0.1, 8)}
    )
    fit = cross_fit(block, {"yarn": ["good", "good 2"], "pi": ["bad"]})
    assert fit is not None
    assert best_set(fit.block).members == ("yarn",)
    assert [entry.method for entry in fit.methods] == ["yarn", "pi"]


def test_nothing_to_halve() -> None:
    assert cross_fit(nll_block({"a": [1.0]}), {"m": ["a"]}) is None
    assert cross_fit(nll_block({"a": [1.0, 2.0]}), {"m": ["b"]}) is None
    two = cross_fit(nll_block({"a": [1.0, 2.0]}), {"m": ["a"]})
    assert two is not None
    assert two.methods[0].held_out.low is not None
