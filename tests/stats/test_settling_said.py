"""What `recommend` says would settle what it leaves open, and the command that gathers it."""

from __future__ import annotations

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
    said, command = settling(run, answer)
    assert said.startswith("yarn factor=4 and yarn factor=2 are told apart by about ")
    assert "6 of which are measured (80 % chance, if they differ as observed)." in said
    assert command.startswith("ropewalk run FILE --until decided --set documents.count=17 --set documents.windows=")
    lines = list(recommendation_lines(answer, "the command", settling=[said, command]))
    assert lines[lines.index("What would settle it:") + 1 :] == [
        f"  {said}",
        f"  {command}",
        "Deploy it:\n  the command",
    ]


def test_what_is_settled_needs_nothing():
    run = run_with(1.0)
    assert settling(run, recommend(run, 4096)) == []
