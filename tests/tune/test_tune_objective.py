"""Scores, splits and rivals, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.corpus.documents import local_document
from ropewalk.errors import ExperimentError
from ropewalk.metrics.passkey import PASSKEY, keys
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.tuning.named import Candidate, first
from ropewalk.tuning.objective import PENALTY, Goal, Outcome, Score, score
from ropewalk.tuning.result import rivals
from ropewalk.tuning.split import split
from ropewalk.tuning.verdict import Verdict, found_block, losses_block

PLAIN = Outcome(long_D=(5.0, 6.0), short_DL=((2.0, 3.0), (2.0, 3.0)))
FOUND = Outcome(long_D=(3.0, 4.0), short_DL=((2.0, 3.1), (2.2, 3.1)), retrieval_P=(0.1, 0.3))
FREE = Goal(retrieval=0.5)


class TestScore:
    def test_every_part_by_hand(self) -> None:
        found = score(FOUND, PLAIN, FREE)
        assert found.long == 3.5
        assert found.retrieval == pytest.approx(0.2, abs=1e-15)
        assert found.short_cost == pytest.approx(math.expm1(0.1), abs=1e-12)  # both lengths rise by 0.1 nats
        assert found.objective == pytest.approx(3.5 + 0.5 * 0.2, abs=1e-12)
        assert found.met

    def test_the_worst_short_length_counts(self) -> None:
        lopsided = Outcome(long_D=(3.0, 3.0), short_DL=((2.4, 3.0), (2.2, 3.0)))
        assert score(lopsided, PLAIN, FREE).short_cost == pytest.approx(math.expm1(0.3), abs=1e-12)

    def test_excess_costs_its_price(self) -> None:
        found = score(FOUND, PLAIN, Goal(retrieval=0.5, max_short_cost=0.05))
        excess = 0.1 - math.log(1.05)
        assert found.excess == pytest.approx(excess, abs=1e-12)
        assert found.objective == pytest.approx(score(FOUND, PLAIN, FREE).objective + PENALTY * excess, abs=1e-12)
        assert not found.met
        assert score(FOUND, PLAIN, Goal(retrieval=0.5, max_short_cost=0.11)).met


def documents(kinds: list[str]) -> list[Any]:
    return [local_document(f"text {i}", id=f"d{i}", title="", kind=kind, source="here") for i, kind in enumerate(kinds)]


class TestSplit:
    @given(st.lists(st.sampled_from(["novel", "play", "speech"]), min_size=4, max_size=20), st.integers(0, 2**40))
    def test_sides_are_disjoint_whole_and_even(self, kinds: list[str], seed: int) -> None:
        found = split(documents(kinds), seed, [256, 512], 5, 20, 512, keys)
        assert not set(found.search) & set(found.judge)
        assert sorted([*found.search, *found.judge]) == list(range(len(kinds)))
        assert abs(len(found.search) - len(found.judge)) <= 1
        for kind in set(kinds):
            sides = [sum(kinds[i] == kind for i in side) for side in (found.search, found.judge)]
            assert abs(sides[0] - sides[1]) <= 1

    def test_no_passkey_is_on_both_sides(self) -> None:
        probes, trials, lengths = 200, 200, [1024, 4096]  # 400 * 400 / 90000 keys: the next seed alone would share one
        found = split(documents(["file"] * 4), 7, lengths, probes, trials, 512, keys)
        ours, theirs = ({k for n in lengths for k in keys(200, n, seed)} for seed in (found.search_seed, 7))
        assert found.judge_seed == 7
        assert found.search_seed > 8
        assert not ours & theirs  # at no two lengths

    def test_what_is_recorded_names_the_documents(self) -> None:
        own = documents(["file"] * 5)
        assert split(own, 0, [], 5, 0, 512, keys).plain(own) == {
            "search": ["d0", "d2", "d4"],
            "judge": ["d1", "d3"],
            "search_seed": 1,
            "judge_seed": 0,
        }

    def test_windows_of_a_document_are_on_one_side(self) -> None:
        own = [each for each in documents(["file"] * 4) for _ in range(2)]
        found = split(own, 0, (), 0, 0, 64, None)
        assert (found.search, found.judge) == ((0, 1, 4, 5), (2, 3, 6, 7))

    @pytest.mark.parametrize("windows", [1, 3])
    def test_too_few(self, windows: int) -> None:
        sentence = (
            "documents: 3 of at least 512 tokens cannot be split into 2 to tune on and 2 to judge on; give 4 or more, "
            "or a smaller --length."
        )
        with pytest.raises(ExperimentError) as caught:
            split([each for each in documents(["file"] * 3) for _ in range(windows)], 0, [], 5, 0, 512, keys)
        assert str(caught.value) == sentence

    def test_keys_that_cannot_be_apart(self) -> None:
        with pytest.raises(ExperimentError, match=r"^tune.probes=1000 and 10000 prompts .* keys apart; lower one of"):
            split(documents(["file"] * 4), 0, [100_000], 1000, 10_000, 512, keys)


def candidate(label: str, long: float, retrieval: float | None, excess: float = 0.0) -> Candidate:
    found = Score(objective=long, long=long, short_cost=0.0, retrieval=retrieval, excess=excess)
    return Candidate(label=label, scheme=Scheme(rotation=Rotation(inv_freq=np.ones(2))), outcome=PLAIN, score=found)


def test_the_winner_is_held_against_the_best_of_the_tuning_set_and_of_its_probes() -> None:
    best = {c.label: c for c in (candidate("none", 2.0, 0.1), candidate("a", 2.5, 3.0), candidate("b", 2.4, 2.0))}
    assert rivals(best, asked=True) == ("b", "none")
    assert rivals(best, asked=False) == ("b", None)
    assert rivals({"none": candidate("none", 2.0, None), "a": candidate("a", 2.5, None)}, asked=True) == ("a", "a")


def test_descents_start_within_the_bound_if_a_method_is() -> None:
    best, within = candidate("best", 2.0, None, excess=0.1), candidate("within", 2.5, None)
    assert first([best, within]) is within
    assert first([candidate("worse", 3.0, None, excess=0.1), best]) is best


def test_a_rival_chosen_before_the_judge_is_flattered() -> None:
    """Nine rotations that do not differ: one is shown to be worse than its rival in 2.5 % of runs, or in 7.5."""
    rng = np.random.default_rng(7)
    fixed, picked = [], []
    for _ in range(1500):
        judge = rng.standard_normal((9, 8))
        for rival, said in ((1, fixed), (1 + int(judge[1:].mean(axis=1).argmin()), picked)):
            d = judge[0] - judge[rival]
            said.append(d.mean() > 2.365 * d.std(ddof=1) / math.sqrt(8))
    assert np.mean(fixed) <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / 1500)
    assert np.mean(picked) > 0.075


def test_a_document_of_several_windows_is_one_unit() -> None:
    losses = {"a": [np.full(7, float(row), np.float32) for row in range(6)]}
    block = losses_block(losses, ["x", "x", "y", "y", "z", "z"], 4, 8)
    assert block.units == ("x", "y", "z")
    assert (block.numerators_CN / block.denominators_CN).tolist() == [[0.5, 2.5, 4.5]]


def test_a_row_is_compared_by_its_own_numbers() -> None:
    """The winner where none is named: losses 1, 2 and 4 a token, 4, 3 and 0 of 4 probes."""
    losses = {
        label: [np.full(3, loss, dtype=np.float32)] * 2 for label, loss in {"tuned": 1, "other": 2, "none": 4}.items()
    }
    found = {label: [i < many for i in range(4)] for label, many in {"tuned": 4, "other": 3, "none": 0}.items()}
    verdict = Verdict(
        labels=("tuned", "other", "none"),
        length=4,
        perplexity={4: losses_block(losses, ["x", "y"], 1, 4)},
        beyond=losses_block(losses, ["x", "y"], 2, 4),
        column=PASSKEY,
        found={4: found_block(PASSKEY, found, 4)},
    )
    for row, apart, share in ((None, -3, 1.0), ("tuned", -3, 1.0), ("other", -2, 0.75)):
        against = verdict.against("none", row)
        assert against["beyond"]["value"] == against["perplexity"]["4"]["value"] == pytest.approx(math.exp(apart))
        assert against["passkey"]["4"]["value"] == share
