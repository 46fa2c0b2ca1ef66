"""The best set against pair-by-pair tests, and at its edges."""

import numpy as np
import pytest
from blocks_for_tests import COLUMNS, nll_block, passkey_block

from ropewalk.stats.best import BestSet, best_set, pairwise_p, step_down
from ropewalk.stats.blocks import Block

RNG_SEED = 20250


def _random_block(distinct_tokens: bool) -> Block:
    rng = np.random.default_rng(RNG_SEED)
    tokens = rng.integers(5, 60, 8) if distinct_tokens else np.full(8, 511)
    means = 2.5 + rng.normal(0, 0.3, 8) + rng.normal(0, 0.05, (5, 8)) + 0.03 * np.arange(5)[:, None]
    tokens_CN = np.broadcast_to(tokens, (5, 8)).astype(float)
    return Block(
        column=COLUMNS["longppl"],
        lengths=(4096,),
        labels=tuple("abcde"),
        units=tuple("12345678"),
        numerators_CN=means * tokens,
        denominators_CN=tokens_CN,
    )


@pytest.mark.parametrize("distinct_tokens", [False, True])
def test_matrix_holds_the_p_of_each_pair(distinct_tokens: bool) -> None:
    block = _random_block(distinct_tokens)
    p_CC = pairwise_p(block)
    for i, a in enumerate(block.labels):
        for j, b in enumerate(block.labels):
            assert p_CC[i, j] == pytest.approx(block.paired(a, b).p, rel=1e-9)


def test_mcnemar_matrix_holds_the_p_of_each_pair() -> None:
    rng = np.random.default_rng(RNG_SEED)
    block = passkey_block({label: rng.integers(0, 2, 20).tolist() for label in "abcd"})
    want = [[block.paired(a, b).p for b in block.labels] for a in block.labels]
    np.testing.assert_allclose(pairwise_p(block), want, rtol=1e-12)


def test_step_down_by_hand() -> None:
    losses = np.array([1.0, 1.1, 2.0, 3.0])
    p_CC = np.array([[1, 0.3, 0.02, 0.001], [0.3, 1, 0.01, 0.002], [0.02, 0.01, 1, 0.2], [0.001, 0.002, 0.2, 1.0]])
    # 4 left: 0.001 * 6 -> 3 leaves; 3 left: 0.01 * 3 -> 2 leaves; 2 left: 0.3 * 1 stays
    kept, left = step_down(losses, p_CC, 0.05)
    assert kept == [0, 1]
    assert left == [(3, pytest.approx(0.006)), (2, pytest.approx(0.03))]
    kept, left = step_down(losses, p_CC, 0.0299)
    assert kept == [0, 1, 2]


def test_clear_losers_leave_and_the_rest_is_tied() -> None:
    rng = np.random.default_rng(RNG_SEED)
    document = rng.normal(2.5, 0.3, 8)
    noise = rng.normal(0, 0.01, (4, 8))
    best = best_set(
        nll_block(
            {
                "a": document + noise[0],
                "bad": document + 1 + noise[1],
                "b": document + noise[2],
                "worse": document + 2 + noise[3],
            }
        )
    )
    assert best.winner in {"a", "b"}
    assert set(best.members) == {"a", "b"}
    assert best.members[0] == best.winner
    assert {label for label, _ in best.excluded} == {"bad", "worse"}
    assert all(p <= 0.05 for _, p in best.excluded)
    assert (best.n, best.distinct) == (8, 4)


def test_equal_measurements_are_one_candidate() -> None:
    a, b = [2.0, 2.5, 3.0, 2.2], [2.1, 2.63, 3.08, 2.33]
    twice = best_set(nll_block({"a": a, "a again": a, "b": b}))
    once = best_set(nll_block({"a": a, "b": b}))
    assert twice.distinct == once.distinct == 2
    assert twice.members == ("a", "a again")
    assert twice.excluded == once.excluded
    assert once.excluded == (("b", pytest.approx(nll_block({"a": a, "b": b}).paired("b", "a").p, rel=1e-9)),)


def test_passkey_higher_is_better() -> None:
    best = best_set(passkey_block({"bad": [0] * 20, "good": [1] * 20, "fair": [1] * 19 + [0]}))
    assert best.winner == "good"
    assert best.members == ("good", "fair")


@pytest.mark.parametrize(
    "block",
    [
        nll_block({"a": [2.0], "b": [9.0]}),
        nll_block({"a": [2.0, 2.0, 2.0], "b": [9.0, 9.0, 9.0]}),
        nll_block({"a": [2.0, 2.5], "b": [2.0, 2.5]}),
        passkey_block({"a": [1], "b": [0]}),
    ],
)
def test_without_a_test_nobody_leaves(block: Block) -> None:
    best = best_set(block)
    assert best.members == ("a", "b")
    assert best.excluded == ()


def test_nothing_to_compare() -> None:
    assert best_set(nll_block({"a": [2.0]}).only([])) == BestSet(
        winner=None, members=(), excluded=(), distinct=0, n=1, alpha=0.05
    )
    assert best_set(nll_block({"a": [2.0, 3.0]})).members == ("a",)
