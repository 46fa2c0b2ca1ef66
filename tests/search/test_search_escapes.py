"""Names of others in search.md; records of others, and links in their place."""

from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path

import pytest
from search_toys import hunt, whole

from ropewalk.errors import StoreError
from ropewalk.searching import record, study
from ropewalk.searching.lines import escaped
from ropewalk.searching.objective import Outcome
from ropewalk.searching.record import Answer

HOSTILE = "<img src=x>|a|*b*[c](javascript:x)`d`\x1b[2J\n# e\u202e~~f~~ _g_ &amp;"


def test_a_hostile_name_is_shown_literally():
    shown = "&lt;img src=x&gt;\\|a\\|\\*b\\*\\[c\\](javascript:x)\\`d\\`"
    shown += "\\\\x1b\\[2J\\\\n\\# e\\\\u202e\\~\\~f\\~\\~ \\_g\\_ &amp;amp;"
    assert escaped({HOSTILE: [HOSTILE, (HOSTILE, 1.5, None)]}) == {shown: [shown, [shown, 1.5, None]]}
    assert escaped("yarn factor=4 beta_fast=32") == "yarn factor=4 beta_fast=32"


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_no_link_stands_for_a_record(tmp_path: Path, make):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "search").mkdir()
    make(precious, tmp_path / "search" / record.FILE)
    with pytest.raises(StoreError, match="cannot be written"), record.opened(tmp_path / "search"):
        pass
    assert precious.read_bytes() == b"precious"


IDENTITY = '{"identity": {}}\n'
OUTCOME = '{"long_D": [1.0], "short_DL": [[2.0]], "keys_D": [[3.0, 4]], "retrieval_P": []}'
ANSWER = '{"study": "seed 0", "candidate": 3, "values": [0.5], "outcome": ' + OUTCOME + ', "objective": NaN}\n'


def test_what_is_recorded_is_read_back_to_the_bit(tmp_path: Path):
    outcome = Outcome(long_D=(0.1 + 0.2, float("inf")), short_DL=((1e-300,), (2.0,)), keys_D=((1.5, 2),))
    answer = Answer(study="named", candidate="yarn", values=(1 / 3,), outcome=outcome, objective=-0.0, wall_s=1e9)
    with record.opened(tmp_path) as kept:
        kept.begin({"a": (1, 2)})
        kept.add(answer)
    with record.opened(tmp_path) as kept:
        assert kept.identity == {"a": [1, 2]}
        assert repr(kept.of("named")["yarn"]) == repr(answer)
        assert kept.of("seed 0") == {}


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path):
    (tmp_path / record.FILE).write_text(IDENTITY + ANSWER + ANSWER.replace("3", "4")[:40])
    with record.opened(tmp_path) as kept:
        assert list(kept.of("seed 0")) == [3]
        kept.add(Answer(study="seed 0", candidate=4, reason="none"))
    with record.opened(tmp_path) as kept:
        assert list(kept.of("seed 0")) == [3, 4]


@pytest.mark.parametrize(
    "text",
    ["[]\n", "7\n", "\n", "\x80\n", "[" * 10**5 + "\n"]
    + [IDENTITY + ANSWER.replace(*pair) for pair in [
        ("3,", '"x": 1,'), ("0.5", '"a"'), ("[1.0]", "[null]"), ("4", "0.5"), ("[1.0]", "[]"), (", 4", ", 0"),
        ('"candidate": 3', '"candidate": [3]'), ("NaN", '"1"'), ("[[2.0]]", "[[2.0], []]")]]
    + [IDENTITY + IDENTITY],
)  # fmt: skip
def test_what_no_search_writes_is_a_sentence(tmp_path: Path, text: str):
    (tmp_path / record.FILE).write_text(text, encoding="latin-1")
    with pytest.raises(StoreError, match="is nothing that a search writes"), record.opened(tmp_path):
        pass


def test_a_search_of_somebody_else_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not even where the record says that it is of the same search: nothing in it is unpickled, and it is no SQLite."""

    def never(*arguments: object) -> None:
        raise AssertionError("a pickle or a database was opened")

    with record.opened(tmp_path) as kept:
        first = study.study_of(kept, "seed 0")
        study.run(first, hunt(), [], whole, lambda count: count < 5, lambda known: None)
    loaded: list[bytes] = []
    real = pickle.loads
    monkeypatch.setattr(pickle, "loads", lambda raw, **options: loaded.append(raw) or real(raw, **options))
    monkeypatch.setattr(sqlite3, "connect", never)
    kept_lines = (tmp_path / record.FILE).read_text("utf-8")
    (tmp_path / record.FILE).write_text(kept_lines.replace('"wall_s":', '"cma:optimizer:0":"80036300","wall_s":', 1))
    with pytest.raises(StoreError, match="is nothing that a search writes"), record.opened(tmp_path):
        pass
    (tmp_path / record.FILE).write_text(kept_lines)
    with record.opened(tmp_path) as kept:
        study.run(study.study_of(kept, "seed 0"), hunt(), [], never, lambda count: False, lambda known: None)
    assert all(b"cmaes" in raw for raw in loaded)  # the sampler's own state, which never left this process


def test_another_candidate_in_its_place_is_refused(tmp_path: Path):
    with record.opened(tmp_path) as kept:
        study.run(study.study_of(kept, "seed 0"), hunt(), [], whole, lambda count: count < 5, lambda known: None)
    text = (tmp_path / record.FILE).read_text("utf-8")
    (tmp_path / record.FILE).write_text(text.replace('"values":[0.0,', '"values":[0.25,', 1))
    with record.opened(tmp_path) as kept, pytest.raises(StoreError, match="candidate 0 of 'seed 0' is not the one"):
        study.run(study.study_of(kept, "seed 0"), hunt(), [], whole, lambda count: count < 9, lambda known: None)
