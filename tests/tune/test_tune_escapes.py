"""Names of others in tune.md; directories of others run nothing and are refused in a sentence."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ropewalk.errors import StoreError
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.tuning import kept, named, state
from ropewalk.tuning.markdown import aligned, escaped
from ropewalk.tuning.objective import Outcome

HOSTILE = "<img src=x>|a|*b*[c](javascript:x)`d`\x1b[2J\n# e\u202e~~f~~ _g_ &amp;"


def test_a_hostile_name_is_shown_literally() -> None:
    shown = "&lt;img src=x&gt;\\|a\\|\\*b\\*\\[c\\](javascript:x)\\`d\\`"
    shown += "\\\\x1b\\[2J\\\\n\\# e\\\\u202e\\~\\~f\\~\\~ \\_g\\_ &amp;amp;"
    assert escaped({HOSTILE: [HOSTILE, (HOSTILE, 1.5, None)]}) == {shown: [shown, [shown, 1.5, None]]}
    assert escaped("yarn factor=4 beta_fast=32") == "yarn factor=4 beta_fast=32"


def test_a_table_lines_up() -> None:
    assert aligned([["a", "long"], ["wide", "b"]]) == ["| a    | long |", "| ---- | ---- |", "| wide | b    |"]


class Runs:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "run"))


OUTCOME = '{"long_D": [1.0], "short_DL": [[2.0]], "retrieval_P": []}'
NAMED = (
    "[]", "7", '{"x": 7}', '{"x": {}}', '{"x": {"reason": 5}}', "[" * 10**5, "\x80",
    *('{"x": ' + OUTCOME.replace(*pair) + "}" for pair in (
        ("[1.0]", "[null]"), ("[1.0]", '["1"]'), ("[1.0]", "[]"), ("[[2.0]]", "[[2.0], []]"), ("long_D", "long"),
    )),
)  # fmt: skip


@pytest.mark.parametrize("text", NAMED)
def test_named_methods_of_others_are_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / named.FILE).write_text(text, encoding="latin-1")
    with pytest.raises(StoreError, match=r"named.json: is damaged \(.*\); remove it, and it is measured again"):
        named.read(tmp_path)


def test_named_methods_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert named.read(tmp_path) == {}
    known: named.Known = {
        "x": Outcome(long_D=(0.1 + 0.2, float("inf")), short_DL=((1e-300,), (2.0,)), retrieval_P=(1 / 3,)),
        "y": "too hot",
    }
    named.keep(tmp_path, known)
    assert named.read(tmp_path) == known


def test_nothing_of_another_directory_is_run(tmp_path: Path) -> None:
    """Pickles, which run what they say when they are read, are no safetensors and no JSON."""
    ran = tmp_path / "ran"
    raw, name = pickle.dumps(Runs(ran)), "seed-0.safetensors"
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(StoreError, match="is damaged"):
        state.read(tmp_path, name, {})
    scheme = Scheme(rotation=Rotation(inv_freq=np.ones(2)))
    (tmp_path / "judged").mkdir()
    for end in ("0.safetensors", "filler.json"):
        (tmp_path / "judged" / f"{scheme.fingerprint}-{end}").write_bytes(raw)
    bench: Any = SimpleNamespace(documents=(np.arange(4),))
    judge = kept.KeptBench(bench=bench, out=tmp_path, prompts="filler", told=lambda *told: None)
    with pytest.raises(StoreError, match="is damaged"):
        judge.losses([scheme], 0)
    with pytest.raises(StoreError, match="is damaged"):
        judge.answers([scheme])
    assert not ran.exists()
    pickle.loads(raw)
    assert ran.exists()  # it would have
