"""Correlation, effective length, Pareto front, sensitivity, power."""

import math

import numpy as np
import pytest
from blocks_for_tests import nll_block, passkey_block
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ropewalk.stats.correlation import rank_agreement, spearman
from ropewalk.stats.effective import against_reference, effective_length, pareto_front
from ropewalk.stats.intervals import Interval
from ropewalk.stats.paired import holm, mcnemar_exact
from ropewalk.stats.power import detectable, power, smallest_mcnemar_p, trials_needed, units_needed
from ropewalk.stats.sensitivity import sensitivity

nan = math.nan


def test_spearman_is_scipys_and_its_interval_bonett_wrights() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 6.0], [2.0, 1.0, 4.0, 3.0, 7.0, 5.0, 9.0]
    got, r = spearman(a, b), stats.spearmanr(a, b).statistic
    assert got is not None
    assert got.value == pytest.approx(r, rel=1e-12)
    reach = 1.959963984540054 * math.sqrt((1 + r**2 / 2) / 4)
    assert got.low == pytest.approx(math.tanh(math.atanh(r) - reach), rel=1e-12)
    assert got.high != pytest.approx(math.tanh(math.atanh(r) + reach * 1.001), rel=1e-6)


def test_spearman_without_information_is_none_or_without_interval() -> None:
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert spearman([1.0, 2.0], [1.0, 2.0]) is None
    for a in ([1.0, 3.0, 2.0, 4.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]):
        got = spearman(a, sorted(a))
        assert got is not None
        assert got.low is got.high is None


def test_metrics_agree_when_both_call_the_same_one_better() -> None:
    tail = nll_block({"a": [1.0, 1.1], "b": [2.0, 2.1], "c": [3.0, 3.1], "c again": [3.0, 3.1]})
    found = passkey_block({"a": [1, 1], "b": [1, 0], "c": [0, 0], "c again": [0, 0]})
    got = rank_agreement(tail, found)
    assert got is not None
    assert (got.value, got.n) == (pytest.approx(1.0), 3)
    assert rank_agreement(tail, found.only(["nobody"])) is None
    with pytest.raises(ValueError, match="correlate within a length"):
        rank_agreement(tail, passkey_block({"a": [1, 1]}, length=4096))


def ratio(value: float, high: float | None = -1.0) -> Interval:
    ends = (None, None) if high is None else (value * 0.99, max(value * 1.01, high))
    return Interval(value=value, low=ends[0], high=ends[1], n=8)


TAIL = {1024: ratio(1.0), 2048: ratio(1.05), 4096: ratio(1.08), 8192: ratio(1.3)}
FOUND = {1024: 1.0, 2048: 0.9, 4096: 0.8, 8192: 0.9}


@pytest.mark.parametrize(
    ("tail", "passkey", "length", "stopped_at", "stopped_by"),
    [
        (TAIL, None, 4096, 8192, "tail"),
        (TAIL, FOUND, 4096, 8192, "tail"),
        (TAIL, FOUND | {2048: 0.79}, 1024, 2048, "found"),
        (TAIL | {2048: None}, None, 1024, 2048, "missing"),
        (TAIL, {1024: 1.0}, 1024, 2048, "missing"),
        (TAIL | {8192: ratio(1.0)}, None, 8192, None, None),
        (TAIL | {1024: ratio(1.101)}, None, None, 1024, "tail"),
        (TAIL | {4096: ratio(1.08, 1.1001)}, None, 2048, 4096, "not shown"),
        (TAIL | {4096: ratio(1.0, None)}, None, 2048, 4096, "not shown"),
        ({}, None, None, None, None),
    ],
)
def test_effective_length(tail, passkey, length, stopped_at, stopped_by) -> None:
    got = effective_length(tail, passkey)
    assert (got.length, got.stopped_at, got.stopped_by) == (length, stopped_at, stopped_by)
    assert (got.threshold is None) == (passkey is None)


def test_effective_length_refuses_what_is_no_share() -> None:
    for tolerance, threshold in ((-0.1, 0.8), (0.1, 80.0), (nan, 0.8)):
        with pytest.raises(ValueError, match="must be >= 0"):
            effective_length(TAIL, None, tolerance=tolerance, threshold=threshold)


def test_the_tail_is_held_against_the_same_tokens() -> None:
    """Inside the window against `none`, beyond it against `truncate`: the text of another length may be easier."""
    hard, easy = np.array([2.6, 2.9, 2.7, 3.1]), np.array([1.6, 1.9, 1.7, 2.1])
    tails = {
        2048: nll_block({"none": easy, "yarn": easy + 0.01 * np.arange(4)}),
        4096: nll_block({"none": hard + 4, "yarn": hard, "truncate": hard + 0.02 * np.arange(4)}, length=4096),
        8192: nll_block({"none": hard, "yarn": hard}, length=8192),
    }
    got = against_reference(tails, "yarn", 2048)
    inside, beyond = tails[2048].paired("yarn", "none"), tails[4096].paired("yarn", "truncate")
    assert got == {2048: inside.interval, 4096: beyond.interval}
    assert effective_length({**dict.fromkeys(tails), **got}, None).length == 4096
    assert against_reference(tails, "none", 2048)[2048].high == 1.0


def test_pareto_front() -> None:
    costs, losses = [1.0, 1.1, 1.2, 1.0, nan, 1.1, 1.3], [9.0, 8.0, 8.5, 9.5, 1.0, 8.0, 7.0]
    assert pareto_front(costs, losses) == [0, 1, 5, 6]
    assert pareto_front([], []) == []
    assert pareto_front([1.0], [nan]) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_pareto_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    def dominated(p: tuple[int, int]) -> bool:
        return any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)

    want = [i for i, p in enumerate(points) if not dominated(p)]
    assert sorted(pareto_front([p[0] for p in points], [p[1] for p in points])) == want


def test_sensitivity_moves_one_parameter_at_a_time() -> None:
    documents = np.array([2.5, 2.9, 2.2, 3.1])
    noise = np.random.default_rng(5).normal(0, 0.01, (5, 4))
    block = nll_block(
        {
            label: documents + effect + noise[i]
            for i, (label, effect) in enumerate(
                [("f2", 0.0), ("f4", 0.2), ("f10", 0.5), ("f2 b24", 0.0), ("f4 b24", 0.2)]
            )
        }
    )
    method = {
        "f2": {"factor": 2.0, "beta_fast": 32},
        "f10": {"factor": 10.0, "beta_fast": 32},
        "f4": {"factor": 4.0, "beta_fast": 32},
        "f2 b24": {"factor": 2.0, "beta_fast": 24},
        "f4 b24": {"factor": 4.0, "beta_fast": 24},
        "failed": {"factor": 8.0, "beta_fast": 24},
    }
    steps = sensitivity(block, {"yarn": method})["yarn"]
    assert [(s.parameter, s.labels) for s in steps] == [
        ("beta_fast", ("f2 b24", "f2")),
        ("beta_fast", ("f4 b24", "f4")),
        ("factor", ("f2", "f4")),
        ("factor", ("f4", "f10")),
        ("factor", ("f2 b24", "f4 b24")),
    ]
    step = steps[3]
    assert (step.before, step.after, step.fixed) == ("4.0", "10.0", '{"beta_fast": 32}')
    assert step.paired == block.paired("f10", "f4")
    assert step.paired.p <= step.adjusted_p <= 5 * step.paired.p
    assert sensitivity(block, {"yarn": {"f2": {"factor": 2.0}}}) == {}


def test_steps_of_all_methods_are_corrected_together() -> None:
    rng = np.random.default_rng(6)
    block = nll_block({label: rng.normal(2.5, 0.1, 8) for label in "abcd"})
    grids = {"one": {"a": {"factor": 2}, "b": {"factor": 4}}, "two": {"c": {"factor": 2}, "d": {"factor": 4}}}
    steps = [step for each in sensitivity(block, grids).values() for step in each]
    assert [step.adjusted_p for step in steps] == holm([step.paired.p for step in steps])


def test_sensitivity_takes_lists_and_omitted_values() -> None:
    block = nll_block({"a": [2.0], "b": [3.0], "c": [4.0]})
    steps = sensitivity(block, {"m": {"a": {"short_factor": [1, 2]}, "b": {"short_factor": [1, 3]}, "c": {}}})["m"]
    assert [(s.before, s.after) for s in steps] == [('"default"', "[1, 2]"), ("[1, 2]", "[1, 3]")]
    assert [s.adjusted_p for s in steps] == [None, None]


def test_power_of_a_known_case() -> None:
    # G*Power 3.1 and statsmodels TTestPower: effect 0.5, n = 34, two-sided 0.05 -> 0.808; effect 0.8, n = 15 -> 0.821
    assert power(34, 0.5, 1.0) == pytest.approx(0.8077775, abs=1e-6)
    assert power(15, 1.6, 2.0) == pytest.approx(0.8213105, abs=1e-6)
    assert power(34, 0.505, 1.0) != pytest.approx(0.8077775, abs=1e-6)
    assert units_needed(0.5, 1.0) == 34
    assert power(33, 0.5, 1.0) < 0.8
    assert power(8, 1e9, 1e-9) == pytest.approx(1.0)
    assert power(8, 0.0, 1.0) == pytest.approx(0.05, abs=1e-6)


def test_power_is_a_probability_and_grows_with_the_effect() -> None:
    for n in (2, 3, 8, 50, 100_000):
        for comparisons in (1, 42, 903):
            grid = [power(n, d, 1.0, 0.05 / comparisons) for d in np.geomspace(1e-4, 1e4, 60)]
            assert np.isfinite(grid).all()
            assert (np.diff(grid) > -1e-6).all()
            assert 0 < grid[0] < grid[-1] <= 1.0 + 1e-12


def test_needed_and_detectable_are_inverse() -> None:
    smallest = detectable(16, 0.02, alpha=0.05 / 42)
    assert power(16, smallest, 0.02, 0.05 / 42) == pytest.approx(0.8, abs=1e-6)
    assert units_needed(smallest * 1.0001, 0.02, alpha=0.05 / 42) == 16
    assert units_needed(smallest * 0.999, 0.02, alpha=0.05 / 42) == 17
    assert units_needed(1e-9, 1.0) is None


def test_trials_needed() -> None:
    for trials in (1, 6, 20):
        assert smallest_mcnemar_p(trials) == pytest.approx(mcnemar_exact([1] * trials, [0] * trials).p)
    assert trials_needed(1) == 6
    assert trials_needed(42) == 11
    assert smallest_mcnemar_p(11) * 42 <= 0.05 < smallest_mcnemar_p(10) * 42


@pytest.mark.parametrize(
    "call",
    [
        lambda: power(1, 1.0, 1.0),
        lambda: power(8, 1.0, 0.0),
        lambda: units_needed(0.0, 1.0),
        lambda: detectable(8, 1.0, chance=0.01),
        lambda: smallest_mcnemar_p(0),
        lambda: trials_needed(0),
    ],
)
def test_questions_without_an_answer_are_refused(call) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        call()
