"""Looks share one chance of an error, and nobody leaves or stays for another reason than the best set gives."""

import math

import numpy as np
import pytest
from blocks_for_tests import nll_block, passkey_block
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.stats.best import best_set
from ropewalk.stats.sequential import FIRST, Look, Standing, judge, looks

SEED = 4711
NAMES = [str(c) for c in range(7)]


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 20))
def test_looks_spend_the_chance_once_and_read_ever_more(units: int, windows: int, first: int) -> None:
    found = looks(units, windows, first=first)
    assert math.fsum(look.share for look in found) == pytest.approx(1, abs=1e-12)
    assert all(look.share > 0 for look in found)
    assert found[-1].share >= 0.5
    read = [(look.windows, look.units) for look in found]
    assert read == sorted(set(read))
    assert read[-1] == (windows, units)
    assert all(look.units == units for look in found if look.windows > 1)
    assert len(found) == 1 or found[0].units >= min(first, units)


def test_the_schedule_of_a_small_grid() -> None:
    assert [(look.units, look.windows) for look in looks(8, 4)] == [(4, 1), (5, 1), (6, 1), (8, 1), (8, 2), (8, 4)]
    assert looks(FIRST) == (Look(units=FIRST, share=1.0),)
    with pytest.raises(ValueError, match="units=0"):
        looks(0)


def replay(values_CN: np.ndarray, alpha: float = 0.05) -> Standing:
    standing = Standing(running=tuple(str(c) for c in range(len(values_CN))))
    for look in looks(values_CN.shape[1]):
        block = nll_block({label: values_CN[int(label), : look.units].tolist() for label in standing.running})
        standing = judge(standing, block, look, alpha)
    return standing


def symmetric(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((7, 12))


def skewed(rng: np.random.Generator) -> np.ndarray:
    return np.exp(0.8 * rng.standard_normal((7, 12)))


@pytest.mark.parametrize("draw", [symmetric, skewed])
def test_over_all_looks_no_more_errors_than_stated(draw) -> None:
    """At 30 % so that 150 runs can tell; looks that each took the whole chance would err more often than stated."""
    rng, alpha, runs = np.random.default_rng(SEED), 0.3, 150
    samples = [2 + draw(rng) for _ in range(runs)]
    errors = np.mean([bool(replay(sample, alpha).left) for sample in samples])
    assert errors <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)
    if draw is symmetric:
        peeking = [
            any(
                best_set(nll_block(dict(zip(NAMES, s[:, : look.units].tolist(), strict=True))), alpha).excluded
                for look in looks(12)
            )
            for s in samples
        ]
        assert np.mean(peeking) > alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)


def test_who_left_stays_out_with_the_documents_it_had() -> None:
    rng = np.random.default_rng(SEED)
    values = 2 + np.r_[0, 0, 0, 5, 5, 0.12][:, None] + 0.05 * rng.standard_normal((6, 16))
    found = replay(values)
    assert set(found.running) == {"0", "1", "2"}
    gone = {left.label: left for left in found.left}
    assert set(gone) == {"3", "4", "5"}
    assert gone["3"].look.units < gone["5"].look.units <= 16
    for left in found.left:
        assert left.p <= 0.05 * left.look.share
        assert left.paired.interval.n == left.look.units
        assert left.paired.interval.low > 1
        assert left.rival in {"0", "1", "2"}


def test_passkeys_leave_as_soon_as_their_trials_say_so() -> None:
    standing = Standing(running=("all", "none", "most"))
    for look in looks(40, first=8):
        n = look.units
        trials = {"all": [1] * n, "none": [0] * n, "most": [int(i % 8 > 0) for i in range(n)]}
        block = passkey_block({label: trials[label] for label in standing.running})
        standing = judge(standing, block, look)
    assert standing.running == ("all", "most")
    assert [(left.label, left.look.units < 20) for left in standing.left] == [("none", True)]


def test_a_look_at_something_else_is_refused() -> None:
    block = nll_block({"a": [1.0, 2.0], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"lacks \['c'\]"):
        judge(Standing(running=("a", "c")), block, Look(units=2, share=1.0))
    with pytest.raises(ValueError, match="3 units"):
        judge(Standing(running=("a", "b")), block, Look(units=3, share=1.0))
