"""Which changes tools/mutate.py draws, and which it leaves out."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
import mutate


def made(source):
    edits = [e for e in mutate.mutations(source, "x.py") if mutate.differs(source, e)]
    return [e.apply(source) for e in edits]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["a <= b", "a > b"]),
        ("a is not b", ["a is b"]),
        ("a not in b and c", ["a not in b or c", "a in b and c"]),
        ("a - b", ["a + b"]),
        ("(a) / (b)", ["(a) * (b)"]),
        ("-a", ["a"]),
        ("not a", ["a"]),
        ("min(x)", ["max(x)"]),
        ("x.low", ["x.high"]),
        ("f(a, b)", ["f(b, a)"]),
        ("a if b else c", ["c if b else a"]),
        ("x[0]", ["x[1]"]),
        ("x[-1]", ["x[1]", "x[-2]", "x[-0]"]),
        ("x = True", ["x = False"]),
        ("x = 0.5", ["x = 0.55"]),
        ("x = 'é' + y", ["x = 'é' - y", "x = 'é~' + y"]),
        ("x = f(strict=True)", []),
        ("__all__ = ['a']", []),
        ("@d(frozen=True)\nclass A:\n    x: Literal['a', 1]\n    'doc'", []),
        ("def f(x: 'A' = None) -> 'B':\n    'doc'\n    return f'{x}'", []),
    ],
)
def test_edits_of_a_line(source, expected):
    assert sorted(made(source)) == sorted(expected)


def test_the_same_seed_draws_the_same_lines_once_each():
    drawn = mutate.draw(["metrics"], 20, 3)
    assert drawn == mutate.draw(["metrics"], 20, 3)
    assert drawn != mutate.draw(["metrics"], 20, 4)
    assert len({(edit.file, edit.line) for edit in drawn}) == 20
    assert {edit.file.split("/")[1] for edit in drawn} == {"metrics"}


def test_the_report_names_survivors_alone():
    caught = {"file": "ropewalk/a.py", "line": 1, "old": "x < y", "new": "x > y", "caught_by": "tests/a.py::test"}
    survivor = caught | {"line": 2, "old": "a | b", "caught_by": ""}
    text = mutate.report([caught, survivor], 3)
    assert text.startswith("1 of 2 changes were caught (3 drawn).")
    assert "| `ropewalk/a.py:2` | `a \\| b` | `x > y` |" in text
    assert "a.py:1" not in text
