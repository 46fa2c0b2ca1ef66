"""Runs of schema 1 open, verify, and give the digits that they printed then (tests/data/schema1)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows
from ropewalk.report.content import content
from ropewalk.report.study import read

RUNS = Path(__file__).parents[1] / "data" / "schema1"


@pytest.mark.parametrize(("name", "cells"), [("a", 41), ("b", 10), ("c", 17)])
def test_an_older_run_gives_the_same_digits(name, cells, tmp_path):
    shutil.copytree(RUNS / name, tmp_path / name)
    run = Run.open(tmp_path / name)
    assert run.rows() == json.loads((RUNS / f"{name}.json").read_text(encoding="utf-8"))
    assert verify_rows(run.directory) == (cells, [])
    assert content(read(run.directory)).sections
