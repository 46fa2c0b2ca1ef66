"""The match alone, on drawn losses."""

from __future__ import annotations

import numpy as np
import pytest

from ropewalk.diagnosis.match import match
from ropewalk.errors import ExportError

RNG = np.random.default_rng(0)
T = 512
ASKED = RNG.exponential(3.0, T)
FAULT = ASKED + RNG.normal(0, 0.5, T)
NEAR = ASKED + RNG.normal(0, 0.01, T)


def noisy(losses: np.ndarray, sigma: float) -> np.ndarray:
    return losses + np.random.default_rng(1).normal(0, sigma, T)


def test_exact() -> None:
    found = match(FAULT + 1e-6, [ASKED, FAULT])
    assert (found.found, found.nearest, found.tied) == (1, 1, (1,))
    assert found.apart[0] is not None
    assert found.apart[0].margin.low is not None
    assert found.apart[0].margin.low > 0.3


def test_what_was_asked_for_is_not_accused_where_it_cannot_be_told() -> None:
    found = match(noisy(NEAR, 0.03), [ASKED, NEAR, FAULT])
    assert found.found == 0


def test_a_fault_that_leaves_most_of_the_difference_is_none() -> None:
    """A little nearer for certain, but roundings are as large."""
    half = ASKED + 0.3 * (FAULT - ASKED)
    found = match(noisy(half, 0.12), [ASKED, FAULT, half])
    assert found.nearest == 2
    assert found.found == 0


def test_as_far_at_the_beginning_as_at_the_end_is_weights() -> None:
    found = match(noisy(ASKED, 0.5), [ASKED, FAULT])
    assert found.found is None
    assert not found.grows


def test_more_than_engines_round_is_allowed_where_it_is_told_from_all() -> None:
    rounded = noisy(ASKED, 0.25)
    assert match(rounded, [ASKED, FAULT]).found is None
    assert match(rounded, [ASKED, FAULT], 0.3).found == 0
    assert match(rounded, [ASKED, ASKED + 1e-5, FAULT], 0.3).found is None
    assert match(noisy(ASKED, 0.15), [ASKED, ASKED + 1e-5, FAULT], 0.3).found == 0


def test_farther_with_position_is_a_rotation() -> None:
    grown = ASKED + np.linspace(0, 0.3, T) * np.random.default_rng(2).normal(0, 1, T)
    found = match(grown, [ASKED, FAULT])
    assert found.apart[0] is not None
    assert found.apart[0].rms < 0.2
    assert found.found is None
    assert found.grows


def test_a_hypothesis_without_all_tokens_is_out_and_the_first_token_does_not_count() -> None:
    tail = np.where(np.arange(T) < 100, np.nan, ASKED)
    no_first = np.where(np.arange(T) < 1, np.nan, FAULT)
    found = match(FAULT, [ASKED, tail, no_first])
    assert found.found == 2
    assert found.apart[1] is None
    cut = match(tail, [FAULT, tail])
    assert (cut.found, cut.tokens) == (1, T - 100)


def test_too_few() -> None:
    with pytest.raises(ExportError, match=r"gave 100 log-probabilities that can be compared, and 128 are needed"):
        match(ASKED[:101], [ASKED[:101]])
