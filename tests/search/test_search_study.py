"""The search on a toy: killed anywhere it goes on as if it had not been; it finds what there is to find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from search_toys import DOCUMENTS, hunt, outcome, raced, whole

from ropewalk.searching import record, study
from ropewalk.searching.objective import Goal
from ropewalk.searching.study import Hunt


class Killed(BaseException):
    """As Ctrl-C or SIGKILL would end a search."""


def searched(directory: Path, asked: Hunt, count: int, measure=whole, told=lambda known: None):
    with record.opened(directory) as store:
        made = study.study_of(store, "seed 0", objectives=2 if asked.front else 1)
        study.run(made, asked, [np.full(5, 0.5)], measure, lambda n: n < count, told)
        return study.candidates(made, asked), [trial.state.name for trial in made.study.trials]


def test_it_finds_what_the_toy_likes(tmp_path):
    asked = hunt()
    found, _ = searched(tmp_path, asked, 65)
    assert len(found) == 65
    best = min(found, key=lambda c: c.objective)
    assert found[0].values == (0.0,) * 5  # the start itself comes first
    gained, possible = (asked.first.score.objective - each for each in (best.objective, 3.15))
    assert gained > 0.75 * possible


@pytest.mark.parametrize(("sampler", "after"), [("cmaes", 0), ("cmaes", 2), ("nsga2", 1), ("tpe", 1)])
def test_killed_while_measuring_it_goes_on_with_the_same_candidates(tmp_path, sampler, after):
    asked = hunt(sampler=sampler)
    expected, _ = searched(tmp_path, asked, 17)
    calls = 0

    def dies(rotations, leaves):
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed
        return whole(rotations, leaves)

    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(Killed):
        searched(other, asked, 17, dies)
    found, states = searched(other, asked, 17)
    assert [c.values for c in found] == [c.values for c in expected]
    assert [c.objective for c in found] == [c.objective for c in expected]
    assert set(states) <= {"COMPLETE", "WAITING"}


def test_killed_between_two_answers_it_goes_on_with_the_same_candidates(tmp_path, monkeypatch):
    """Also the rivals of a race are those of the generation's beginning."""
    asked = hunt()
    expected, _ = searched(tmp_path, asked, 17, raced)
    other = tmp_path / "other"
    other.mkdir()
    told, real = 0, study._tell

    def dies(*arguments):
        nonlocal told
        told += 1
        if told > 13:
            raise Killed
        real(*arguments)

    monkeypatch.setattr(study, "_tell", dies)
    with pytest.raises(Killed):
        searched(other, asked, 17, raced)
    monkeypatch.setattr(study, "_tell", real)
    found, _ = searched(other, asked, 17, raced)
    assert [(c.values, c.objective, c.dropped) for c in found] == [(c.values, c.objective, c.dropped) for c in expected]
    assert any(c.dropped for c in found)
    assert all(c.dropped == (len(c.outcome.long_D) < DOCUMENTS) for c in found)


def test_more_evaluations_go_on_where_fewer_ended(tmp_path):
    expected, _ = searched(tmp_path, hunt(), 17)
    other = tmp_path / "other"
    other.mkdir()
    assert len(searched(other, hunt(), 5)[0]) == 9  # the start and a whole generation
    found, _ = searched(other, hunt(), 12)
    assert [c.values for c in found] == [c.values for c in expected]


def test_another_seed_is_another_search(tmp_path):
    found, _ = searched(tmp_path, hunt(), 9)
    (tmp_path / "other").mkdir()
    others, _ = searched(tmp_path / "other", hunt(seed=1), 9)
    assert found[0].values == others[0].values
    assert all(a.values != b.values for a, b in zip(found[1:], others[1:], strict=True))


def test_racing_spares_documents_and_changes_nothing_about_the_best(tmp_path):
    short, _ = searched(tmp_path, hunt(), 41, raced)
    assert sum(len(c.outcome.long_D) for c in short) < 0.9 * DOCUMENTS * len(short)
    best = min((c for c in short if not c.dropped), key=lambda c: c.objective)
    assert best.objective < hunt().first.score.objective
    for candidate in short:
        if candidate.dropped:  # none that left would have won
            assert float(np.mean(outcome(candidate.rotation).long_D)) > best.objective


def test_without_its_probes_a_candidate_is_not_complete():
    whole_one = hunt().first.outcome
    assert not hunt().left(whole_one)
    assert hunt(goal=Goal(long=1.0, retrieval=0.1, keys=0.0)).left(whole_one)


def test_a_bound_keeps_the_best_within_it(tmp_path):
    bound = 0.04
    asked = hunt(goal=Goal(long=1.0, retrieval=0.0, keys=0.0, max_short_cost=bound))
    found, _ = searched(tmp_path, asked, 41)
    won = [c for c in found if c.won]
    assert won
    assert all(c.score.short_cost <= bound for c in won)
    assert any(not c.won for c in found)


def test_what_cannot_be_measured_is_told_as_a_failure(tmp_path):
    def measure(rotations, leaves):
        return ["out of memory" if i == 1 else each for i, each in enumerate(whole(rotations, leaves))]

    found, states = searched(tmp_path, hunt(), 17, measure)
    assert states.count("FAIL") == 2
    assert len(found) == len(states) - 2


def test_a_front_spreads_over_the_short_cost(tmp_path):
    found, _ = searched(tmp_path, hunt(sampler="nsga2"), 25)
    costs = [c.score.short_cost for c in found]
    assert found[1].values == (0.5,) * 5  # the other start
    assert max(costs) > 2 * min(costs)
    assert not any(c.dropped for c in found)
