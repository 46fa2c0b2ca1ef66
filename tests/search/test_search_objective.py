"""Scores, races and splits, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.corpus.documents import local_document
from ropewalk.errors import ExperimentError
from ropewalk.metrics.passkey import keys
from ropewalk.searching.objective import PENALTY, Goal, Outcome, score
from ropewalk.searching.race import Rival, saving
from ropewalk.searching.split import split

PLAIN = Outcome(long_D=(5.0, 6.0), short_DL=((2.0, 3.0), (2.0, 3.0)))
FOUND = Outcome(
    long_D=(3.0, 4.0),
    short_DL=((2.0, 3.1), (2.2, 3.1)),
    keys_D=((8.0, 2), (2.0, 3)),
    retrieval_P=(0.1, 0.3),
)
ALL = Goal(long=1.0, retrieval=0.5, keys=0.25)


class TestScore:
    def test_every_part_by_hand(self):
        found = score(FOUND, PLAIN, ALL)
        assert found.long == 3.5
        assert found.retrieval == pytest.approx(0.2, abs=1e-15)
        assert found.keys == 2.0
        assert found.short_cost == pytest.approx(math.expm1(0.1), abs=1e-12)  # both lengths rise by 0.1 nats
        assert found.objective == pytest.approx(3.5 + 0.5 * 0.2 + 0.25 * 2.0, abs=1e-12)
        assert found.met

    def test_the_worst_short_length_counts(self):
        lopsided = Outcome(long_D=(3.0, 3.0), short_DL=((2.4, 3.0), (2.2, 3.0)))
        assert score(lopsided, PLAIN, ALL).short_cost == pytest.approx(math.expm1(0.3), abs=1e-12)

    def test_excess_costs_its_price(self):
        bounded = Goal(long=1.0, retrieval=0.5, keys=0.25, max_short_cost=0.05, max_retrieval=0.15)
        found = score(FOUND, PLAIN, bounded)
        excess = 0.1 - math.log(1.05) + 0.2 - 0.15
        assert found.excess == pytest.approx(excess, abs=1e-12)
        assert found.objective == pytest.approx(score(FOUND, PLAIN, ALL).objective + PENALTY * excess, abs=1e-12)
        assert not found.met
        loose = Goal(long=1.0, retrieval=0.5, keys=0.25, max_short_cost=0.11, max_retrieval=0.25)
        assert score(FOUND, PLAIN, loose).met

    def test_json_comes_back(self):
        assert Outcome.read(FOUND.plain()) == FOUND


class TestRace:
    RIVAL = Rival(outcome=PLAIN, score=score(PLAIN, PLAIN, Goal(long=1.0, retrieval=0.0, keys=0.0)))
    GOAL = Goal(long=1.0, retrieval=0.0, keys=0.0)

    def candidate(self, *long: float) -> Outcome:
        return Outcome(long_D=long, short_DL=((2.0, 3.0),) * len(long))

    def test_clearly_worse_leaves(self):
        assert self.RIVAL.excludes(self.candidate(6.0, 7.05), self.GOAL)

    def test_better_stays_and_one_document_is_not_enough(self):
        assert not self.RIVAL.excludes(self.candidate(4.0, 5.0), self.GOAL)
        assert not self.RIVAL.excludes(self.candidate(50.0), self.GOAL)

    def test_what_the_rival_pays_elsewhere_can_still_be_made_up_for(self):
        paid = Outcome(long_D=PLAIN.long_D, short_DL=PLAIN.short_DL, retrieval_P=(2.0,))
        goal = Goal(long=1.0, retrieval=1.0, keys=0.0)
        rival = Rival(outcome=paid, score=score(paid, PLAIN, goal))
        assert not rival.excludes(self.candidate(6.0, 7.05), goal)
        assert rival.excludes(self.candidate(8.0, 9.05), goal)

    def test_on_all_documents_the_loss_itself_counts_and_not_its_interval(self):
        short = Outcome(long_D=(5.0, 6.0, 7.0), short_DL=((2.0, 3.0),) * 3)
        longer = Rival(outcome=short, score=score(short, short, self.GOAL))
        assert not longer.excludes(self.candidate(5.1, 6.6), self.GOAL)  # its interval holds 0
        assert self.RIVAL.excludes(self.candidate(5.1, 6.6), self.GOAL)  # it is worse on all that there are
        assert not self.RIVAL.excludes(self.candidate(*PLAIN.long_D), self.GOAL)

    def test_the_estimate_is_the_rivals_number_plus_the_gap(self):
        assert self.RIVAL.estimate(self.candidate(6.0, 7.5), self.GOAL) == pytest.approx(5.5 + 1.25, abs=1e-12)

    def test_saving(self):
        assert saving([4, 4], 4) == 0.0
        assert saving([2, 4], 4) == 0.25
        assert saving([], 4) == 0.0


def documents(kinds: list[str]):
    return [local_document(f"text {i}", id=f"d{i}", title="", kind=kind, source="here") for i, kind in enumerate(kinds)]


class TestSplit:
    @given(st.lists(st.sampled_from(["novel", "play", "speech"]), min_size=4, max_size=20), st.integers(0, 2**40))
    def test_sides_are_disjoint_whole_and_even(self, kinds: list[str], seed: int):
        found = split(documents(kinds), seed, [256, 512], 5, 20, 512, keys)
        assert not set(found.search) & set(found.judge)
        assert sorted([*found.search, *found.judge]) == list(range(len(kinds)))
        assert abs(len(found.search) - len(found.judge)) <= 1
        for kind in set(kinds):
            sides = [sum(kinds[i] == kind for i in side) for side in (found.search, found.judge)]
            assert abs(sides[0] - sides[1]) <= 1

    def test_no_passkey_is_on_both_sides(self):
        probes, trials, lengths = 200, 200, [1024, 4096]  # 400 * 400 / 90000 keys: the next seed alone would share one
        found = split(documents(["file"] * 4), 7, lengths, probes, trials, 512, keys)
        ours, theirs = ({k for n in lengths for k in keys(200, n, seed)} for seed in (found.search_seed, 7))
        assert found.judge_seed == 7
        assert found.search_seed > 8
        assert not ours & theirs  # at no two lengths

    def test_what_is_recorded_names_the_documents(self):
        own = documents(["file"] * 5)
        assert split(own, 0, [], 5, 0, 512, keys).plain(own) == {
            "search": ["d0", "d2", "d4"],
            "judge": ["d1", "d3"],
            "search_seed": 1,
            "judge_seed": 0,
        }

    def test_too_few(self):
        sentence = (
            "documents: 3 of at least 512 tokens cannot be split into 2 to search on and 2 to judge on; give 4 or "
            "more, or a smaller --length."
        )
        with pytest.raises(ExperimentError) as caught:
            split(documents(["file"] * 3), 0, [], 5, 0, 512, keys)
        assert str(caught.value) == sentence

    def test_keys_that_cannot_be_apart(self):
        with pytest.raises(ExperimentError, match="leave no keys apart; lower one of them"):
            split(documents(["file"] * 4), 0, [100_000], 1000, 10_000, 512, keys)
