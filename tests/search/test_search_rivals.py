"""Whom a search's winner is held against: chosen on the search set alone."""

import math

import numpy as np
import search_toys as toys

from ropewalk.rope import Rotation
from ropewalk.searching.objective import Score
from ropewalk.searching.result import rivals
from ropewalk.searching.study import Candidate


def candidate(label: str, long: float, retrieval: float | None) -> Candidate:
    score = Score(objective=long, long=long, short_cost=0.0, retrieval=retrieval, keys=None, excess=0.0)
    rotation = Rotation(inv_freq=toys.GEOMETRY.unscaled_inv_freq)
    return Candidate(label=label, rotation=rotation, outcome=toys.UNSCALED, score=score, objective=long, dropped=False)


def test_the_best_of_the_search_set_and_of_its_probes():
    best = {c.label: c for c in (candidate("none", 2.0, 0.1), candidate("a", 2.5, 3.0), candidate("b", 2.4, 2.0))}
    assert rivals(best, asked=True) == ("b", "none")
    assert rivals(best, asked=False) == ("b", None)
    assert rivals({"none": candidate("none", 2.0, None), "a": candidate("a", 2.5, None)}, asked=True) == ("a", "a")


def test_a_rival_chosen_before_the_judge_is_flattered():
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
