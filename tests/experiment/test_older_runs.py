"""Stored runs open, verify, and give the digits that they printed then.

tests/data/schema1: of the first schema. tests/data/schema2: of 01e5919, whose tables are those of today
(strand, windows of documents, a method with branches, passkeys, key tokens by itself); with the tables of its report.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows
from ropewalk.report.content import content
from ropewalk.report.markdown import markdown
from ropewalk.report.study import read

RUNS = Path(__file__).parents[1] / "data" / "schema1"
LAST = Path(__file__).parents[1] / "data" / "schema2"


@pytest.mark.parametrize(("name", "cells"), [("a", 41), ("b", 10), ("c", 17)])
def test_an_older_run_gives_the_same_digits(name, cells, tmp_path):
    shutil.copytree(RUNS / name, tmp_path / name)
    run = Run.open(tmp_path / name)
    assert run.rows() == json.loads((RUNS / f"{name}.json").read_text(encoding="utf-8"))
    assert verify_rows(run.directory) == (cells, [])
    assert content(read(run.directory)).sections


def test_a_run_of_the_last_version_is_reported_with_the_same_digits(tmp_path):
    shutil.copytree(LAST / "a", tmp_path / "a")
    then = json.loads((LAST / "a.json").read_text(encoding="utf-8"))
    assert Run.open(tmp_path / "a").rows() == then["rows"]
    assert verify_rows(tmp_path / "a") == (len(then["rows"]), [])
    assert verify_passes(tmp_path / "a", 2, seed=1) == (2, [])
    said = markdown(content(read(tmp_path / "a")), ())
    lines = iter(said.split("\n"))
    lost = [line for line in then["tables"] if line not in lines]  # in order; tables that came since lie between
    assert lost == []
