"""What to measure next follows from what was measured, and from nothing else."""

import math
from dataclasses import replace

import numpy as np
import pytest
from blocks_for_tests import COLUMNS, nll_block, passkey_block

from ropewalk.stats.policy import Outcomes, Step, next_step, sentence, widest
from ropewalk.stats.power import power
from ropewalk.stats.sequential import looks
from ropewalk.stats.settle import changed, command, documents_for, needed

SEED = 77
APART = np.array([0.0, 0.004, 0.3, 1.0, 1.0, 2.0])
LABELS = tuple(f"m{c}" for c in range(6))


def truth(documents: int = 8, windows: int = 4) -> np.ndarray:
    rng = np.random.default_rng(SEED)
    own = 0.02 * rng.standard_normal((6, documents, 1)) + 0.04 * rng.standard_normal((6, documents, windows))
    return 2 + rng.standard_normal((1, documents, windows)) + APART[:, None, None] + own


def nothing(whole: np.ndarray) -> Outcomes:
    return known(whole, np.zeros(whole.shape, dtype=bool))


def known(whole: np.ndarray, read_CNW: np.ndarray) -> Outcomes:
    values = np.where(read_CNW, whole, math.nan)
    units = tuple(f"text {i}" for i in range(whole.shape[1]))
    return Outcomes(
        column=COLUMNS["tail"],
        length=1024,
        labels=LABELS,
        units=units,
        numerators_CNW=values * 256,
        denominators_CNW=np.where(read_CNW, 256.0, math.nan),
    )


def play(whole: np.ndarray, batch: int = 10**9, **options: float) -> tuple[Step, np.ndarray]:
    """The last step of a run that measures what is asked, at most so much at a time, and what it read."""
    read_CNW = np.zeros(whole.shape, dtype=bool)
    for _ in range(10_000):
        step = next_step(known(whole, read_CNW), looks(*whole.shape[1:]), **options)
        if step.why is not None:
            return step, read_CNW
        assert len(step.ask)
        assert not read_CNW[tuple(step.ask.T)].any()
        read_CNW[tuple(step.ask[:batch].T)] = True
    raise AssertionError("it never ends")


def test_losers_are_read_no_further_and_the_rest_in_full() -> None:
    step, read_CNW = play(truth())
    assert step.why == "everything read"
    assert step.standing.running == ("m0", "m1")
    assert read_CNW[:2].all()
    assert all(read_CNW[c].sum() < 16 for c in (3, 4, 5))
    for left in step.standing.left:
        assert read_CNW[LABELS.index(left.label)].sum() == left.look.units * left.look.windows
        assert f"{left.label} left after {left.look.units} documents: " in sentence(left)
        assert f"against {left.rival}" in sentence(left)


def test_an_interrupted_run_ends_as_one_in_a_piece() -> None:
    (whole, read), (pieces, again) = play(truth()), play(truth(), batch=1)
    assert whole.standing == pieces.standing
    np.testing.assert_array_equal(read, again)


def test_it_ends_when_one_is_left() -> None:
    step, read_CNW = play(truth()[[0, 2, 3, 3, 4, 5]])
    assert step.why == "decided"
    assert step.standing.running == ("m0",)
    assert not read_CNW.all(axis=(1, 2)).any()


def test_it_ends_when_all_are_precise() -> None:
    coarse, fine = play(truth(), precision=0.2), play(truth(), precision=0.001)
    assert coarse[0].why == "precision"
    assert coarse[1].sum() < fine[1].sum()
    assert fine[0].why == "everything read"
    look = coarse[0].look
    running = known(truth(), coarse[1]).block(coarse[0].standing.running, look)
    assert widest(running, 0.05 * look.share) <= 0.2 < widest(running, 1e-9)


def test_a_look_beyond_the_budget_is_not_begun() -> None:
    first = len(next_step(nothing(truth()), looks(8, 4)).ask)
    assert first == 6 * 4
    assert next_step(nothing(truth()), looks(8, 4), budget=first - 1).why == "budget"
    assert len(next_step(nothing(truth()), looks(8, 4), budget=first - 1).ask) == 0
    assert len(next_step(nothing(truth()), looks(8, 4), budget=first).ask) == first


def test_passes_saved_and_the_same_best_set() -> None:
    """Where half of the configurations lose clearly: the truly best stays, and a third of the passes is saved."""
    rng, saved, kept = np.random.default_rng(SEED), [], 0
    for _ in range(20):
        order = rng.permutation(8)
        step, read_CNW = play(truth()[:, order])
        saved.append(1 - read_CNW.mean())
        kept += "m0" in step.standing.running
    assert kept == 20
    assert np.mean(saved) > 1 / 3


def test_evidence_that_would_settle_it() -> None:
    rng = np.random.default_rng(SEED)
    base = rng.standard_normal(8)
    noise = 0.05 * np.array([1, -1, 0.5, -0.5, 1.5, -1.5, 0.2, -0.2])
    block = nll_block(
        {"best": base.tolist(), "near": (base + 0.02 + noise).tolist(), "far": (base + 3 + noise[::-1]).tolist()}
    )
    (found,) = needed(block, precision=0.01)
    assert (found.label, found.difference) == ("near", pytest.approx(0.02))
    deviation = float(np.std(noise, ddof=1))
    assert power(found.units, 0.02, deviation, 0.05) >= 0.8 > power(found.units - 1, 0.02, deviation, 0.05)
    (fewer,) = needed(replace(block, between=0.2), precision=0.01, windows=4)
    assert fewer.units < found.units / 2
    assert fewer.units_if_equal < found.units_if_equal / 2
    measured = replace(block, between=0.2, windows=4)
    assert needed(measured, precision=0.01) == (found,)
    assert needed(measured, precision=0.01, windows=1)[0].units > 2 * found.units
    by_windows = documents_for(measured, 0.01)
    assert by_windows[4] == found.units_if_equal
    assert [*by_windows] == [1, 2, 4, 8]
    assert sorted(by_windows.values(), reverse=True) == [*by_windows.values()]
    assert [*documents_for(block, 0.01)] == [1]
    with pytest.raises(ValueError, match="windows=4"):
        needed(block, precision=0.01, windows=4)
    assert needed(block.only(["best", "far"]), precision=0.01) == ()
    trials = passkey_block({"a": [1] * 18 + [0] * 2, "b": [1] * 16 + [0] * 4})
    assert needed(trials, precision=0.05)[0].units > 20


def test_the_command_that_gathers_it() -> None:
    assert changed(units=12, available=17, windows=1) == {"documents.count": 12}
    assert changed(units=50, available=17, windows=2) == {"documents.count": 17, "documents.windows": 6}
    assert command("my run/", {"documents.count": 17, "documents.windows": 6}) == (
        "ropewalk run 'my run/' --until decided --set documents.count=17 --set documents.windows=6 "
        "--reuse 'my run/' --out 'my run-more'"
    )
