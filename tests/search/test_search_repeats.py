"""Several seeds, one search: whether they agree is said and stored, and a kill in the second of them loses nothing."""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import search_victims
from search_toys import GENERATION, SEED

import ropewalk as rw
from ropewalk.experiment import schema
from ropewalk.searching import named, record
from ropewalk.searching.asked import Request
from ropewalk.searching.bench import Bench
from ropewalk.searching.lines import agreement, lines
from ropewalk.searching.run import Found, search

ANSWERED = 1 + 4  # the start, and a part of the first generation


def stored(out: Path) -> dict[str, list[record.Answer]]:
    """What the record holds of each study."""
    with record.opened(out) as store:
        return {name: [*store.of(name).values()] for name in (named.STUDY, f"seed {SEED}", f"seed {SEED + 1}")}


def test_every_seed_is_searched_judged_and_compared(two: Found) -> None:
    result = two.result
    names = [f"searched seed {SEED}", f"searched seed {SEED + 1}"]
    assert [each["label"] for each in result["repeats"]] == names
    assert [result["evaluations"][name] for name in names] == [1 + 3 * GENERATION] * 2
    assert result["winner"]["objective"] == min(each["objective"] for each in result["repeats"])
    rows = {row["label"]: row for row in result["judge"]["rows"]}
    winner = next(each for each in result["repeats"] if each["fingerprint"] == result["winner"]["fingerprint"])
    assert rows[winner["label"]]["beyond"] == rows["searched"]["beyond"]  # one rotation is one measurement
    assert winner["apart"] == 0.0


def test_whether_the_seeds_found_the_same_is_said_with_numbers(two: Found) -> None:
    """The winner is one of the two, so the distance of the other from it is that between them."""
    each, repeats = two.result["agreement"], two.result["repeats"]
    assert (each["seeds"], each["moved"], each["rotations"]) == (2, 2, 2)
    other = max(repeat["apart"] for repeat in repeats)
    assert each["apart"] == pytest.approx(other, rel=1e-12)
    assert each["apart"] > 0.01
    logs = [math.log(repeat["attention_factor"]) for repeat in repeats]
    assert each["apart_attention"] == pytest.approx(abs(logs[0] - logs[1]), rel=1e-12)
    beyond = {row["label"]: row["beyond"] for row in two.result["judge"]["rows"]}
    assert each["beyond"]["value"] == pytest.approx(beyond[each["worst"]] / beyond[each["best"]], rel=1e-12)
    assert each["beyond"]["value"] >= 1.0
    text = (two.directory / "search.md").read_text("utf-8")
    assert f"2 seeds ended at 2 rotations: ln lambda up to {each['apart']:.3f} apart" in text
    assert agreement(each) in text


def test_seeds_that_stayed_where_they_began_agree_on_nothing(two: Found) -> None:
    one = {"seeds": 3, "rotations": 1, "apart": 0.0, "apart_attention": 0.0}
    assert agreement(one | {"moved": 3}) == "3 seeds ended at 1 rotation: they found the same."
    assert agreement(one | {"moved": 0}).startswith("none of 3 seeds found anything better than its start")
    stayed = dict(two.result["repeats"][0]) | {"moved": False}
    text = "\n".join(lines(dict(two.result) | {"repeats": [stayed]}))
    assert "from the winner's; no candidate was better than its start." in text


def test_progress_and_its_total_are_those_of_all_repeats(two_arguments: dict[str, Any], two: Found) -> None:
    told: list[tuple[str, int, int]] = []
    kept = ("model", "dtype", "methods", "documents", "seed")
    raw = {name: two_arguments[name] for name in kept} | {"lengths": [64, 256], "search": two_arguments["section"]}
    experiment = schema.parse(raw | {"metrics": {"perplexity": {}}}, "file")
    asked = Request(**{name: two_arguments[name] for name in ("length", "evaluations", "repeats", "seed")})
    search(experiment, asked, two.directory, progress=lambda *each: told.append(each))
    counted = [(done, total) for _, done, total in told if total]
    assert len({total for _, total in counted}) == 1
    assert all(a[0] <= b[0] for a, b in pairwise(counted))
    assert counted[-1][0] == counted[-1][1]


def test_killed_in_the_second_repeat_it_goes_on(two_arguments: dict[str, Any], two: Found, tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=search_victims.search, args=(two_arguments, tmp_path, SEED + 1, ANSWERED)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = stored(tmp_path)
    assert len(before[f"seed {SEED + 1}"]) == ANSWERED
    assert not (tmp_path / "winner.json").exists()

    fed: list[int] = []
    real = Bench.outcomes

    def outcomes(self: Bench, rotations: Any, *rest: Any) -> Any:
        fed.append(len(rotations))
        return real(self, rotations, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "outcomes", outcomes)
        again = rw.search(out=tmp_path, **two_arguments)
    after, whole = stored(tmp_path), stored(two.directory)
    assert sum(fed) == 1 + 3 * GENERATION - ANSWERED  # what was unanswered, and no more
    for name, known in before.items():
        assert after[name][: len(known)] == known
    for name in (f"seed {SEED}", f"seed {SEED + 1}"):
        values = [np.array([answer.values for answer in each[name]]) for each in (after, whole)]
        np.testing.assert_array_equal(*values)  # the same candidates as without the kill
    for name in ("apart", "apart_attention"):
        assert again.result["agreement"][name] == pytest.approx(two.result["agreement"][name], rel=1e-12)
    assert json.loads((tmp_path / "search.json").read_text("utf-8"))["agreement"]["rotations"] == 2
