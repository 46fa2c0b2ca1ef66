"""What `recommend` says would settle what it leaves open, and the command that gathers it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from handmade_runs import run_of

from ropewalk.report.printing import recommendation_lines
from ropewalk.report.recommend import recommend
from ropewalk.report.settling import settling

BASE = [3.0, 3.2, 3.4, 3.1, 3.3, 2.9]
NOISE = [0.05, -0.05, 0.03, -0.03, 0.08, -0.06]


def run_with(apart):
    near = [b + apart + n for b, n in zip(BASE, NOISE, strict=True)]
    tail = {
        ("none", 4096): [b + 2 + n for b, n in zip(BASE, NOISE[::-1], strict=True)],
        ("yarn factor=2", 4096): BASE,
        ("yarn factor=4", 4096): near,
    }
    return run_of(tail=tail, experiment={"documents": {"corpus": "builtin"}})


def test_a_tie_says_how_many_documents_and_the_command():
    run = run_with(0.01)
    answer = recommend(run, 4096)
    said, command = settling(run, answer, Path("runs/a b"))
    assert said == (
        "yarn factor=4 and yarn factor=2 are told apart by about 150 documents in all, 6 of which are measured (80 % "
        "chance, if they differ as observed). 133 show that these two are within 1 % of each other, if they are."
    )
    changed, _, taken = command.partition(" --reuse ")
    assert re.fullmatch(
        r"ropewalk run 'runs/a b' --until decided --set documents\.count=17 --set documents\.windows=\d+", changed
    )
    assert taken == "'runs/a b' --out 'runs/a b-more'"
    lines = list(recommendation_lines(answer, "the command", settling=[said, command]))
    assert lines[lines.index("What would settle it:") + 1 :] == [
        f"  {said}",
        f"  {command}",
        "Deploy it:\n  the command",
    ]


def test_all_that_are_open_are_counted():
    near = {f"yarn factor={i}": [b + 0.004 * i + n for b, n in zip(BASE, NOISE, strict=True)] for i in (3, 4)}
    run = run_of(tail={(label, 4096): tail for label, tail in ({"yarn factor=2": BASE} | near).items()})
    said, *_ = settling(run, recommend(run, 4096), Path("a"))
    soonest, every = (int(found.replace(",", "")) for found in re.findall(r"about ([\d,]+) documents", said))
    assert said.startswith("yarn factor=4 and yarn factor=2 are told apart by about ")
    assert " All 2 that are open take about " in said
    assert 6 < soonest < every


def test_a_run_that_a_budget_ended_goes_on_itself():
    run = run_with(0.01)
    for why, goes_on in (("budget", True), (None, True), ("decided", False)):
        ended = dataclasses.replace(run, meta=dict(run.meta) | {"decided": {"why": why}})
        command = settling(ended, recommend(ended, 4096), Path("runs/a"))[-1]
        assert (command == "ropewalk resume runs/a") == goes_on


def test_files_are_as_many_as_there_are():
    run = run_with(0.01)
    for asked, count in (({"files": ["*.txt"]}, 6), ({"files": ["*.txt"], "count": 6}, 7)):
        rows = [{"cluster": str(i)} for i in range(6)]
        meta = dict(run.meta) | {"documents": rows, "experiment": {"documents": asked}}
        of_files = dataclasses.replace(run, meta=meta)
        command = settling(of_files, recommend(of_files, 4096), Path("a"))[-1]
        found = re.search(r"documents\.count=(\d+)", command)
        assert found is not None
        assert (int(found[1]) == count) if count == 6 else (int(found[1]) >= count)
        assert ("documents.windows" in command) == (count == 6)


def test_trials_are_asked_for_by_their_own_key():
    found = {("none", 4096): [0.0] * 8, ("yarn factor=2", 4096): [1.0] * 8, ("yarn factor=4", 4096): [1.0] * 7 + [0]}
    run = run_of(passkey=found, experiment={"metrics": {"passkey": {"trials": 8}}})
    command = settling(run, recommend(run, 4096, by="passkey"), Path("a"))[-1]
    assert re.fullmatch(
        r"ropewalk run a --until decided --set metrics\.passkey\.trials=\d+ --reuse a --out a-more", command
    )


def test_what_is_settled_needs_nothing():
    run = run_with(1.0)
    assert settling(run, recommend(run, 4096), Path("runs")) == []
