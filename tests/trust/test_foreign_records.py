"""Records of a run that mean nothing end in a sentence before anything is written; no file they name is opened."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ropewalk.errors import RopewalkError, StoreError
from ropewalk.execution.rerun import verify_passes
from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import Store
from ropewalk.experiment.verify import verify_rows
from ropewalk.metrics import METRICS, ruler


def execute(run: Path, statement: str, *values: Any) -> None:
    db = sqlite3.connect(run / "run.sqlite")
    with db:
        db.execute(statement, values)
    db.close()


def asked_for(run: Path, metrics: dict[str, Any]) -> None:
    """Say in a run's record that these metrics were asked for."""
    changed = "UPDATE meta SET value = json_set(value, '$.experiment.metrics', json(?)) WHERE key = 'identity'"
    execute(run, changed, json.dumps(metrics))


RECORDS = {
    "canary": "UPDATE meta SET value = json_set(value, '$.nll', json('[\"a\"]')) WHERE key = 'canary'",
    "wall_s": "UPDATE meta SET value = '[1]' WHERE key = 'wall_s'",
    "left_out": "UPDATE meta SET value = '7' WHERE key = 'left_out'",
    "model": "UPDATE meta SET value = '{}' WHERE key = 'model'",
    "device": "UPDATE meta SET value = json_set(value, '$.device', 7) WHERE key = 'model'",
}


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_of_another_kind_ends_a_resumed_run(run_copy, base_experiment, record):
    execute(run_copy, RECORDS[record])
    before = (run_copy / "run.sqlite").read_bytes()
    with pytest.raises(StoreError, match="what it holds does not fit together"):
        sweep(ask(schema.parse(base_experiment, "test")), run_copy)
    assert (run_copy / "run.sqlite").read_bytes() == before


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999"])
def test_a_number_that_nobody_writes_is_damage(run_copy, number):
    """It came out again, in a canary that a resumed run could not write."""
    execute(run_copy, "UPDATE meta SET value = ? WHERE key = 'canary'", f'{{"ids": [1], "nll": [{number}]}}')
    with (
        contextlib.closing(Store.open_run(run_copy, read_only=True)) as store,
        pytest.raises(StoreError, match="meta canary is damaged; restore the file"),
    ):
        store.meta("canary")


def test_a_canary_of_another_kind_ends_a_verification(run_copy):
    execute(run_copy, RECORDS["canary"])
    with pytest.raises(StoreError, match="what it holds does not fit together"):
        verify_passes(run_copy, 1)


KINDS = {
    "UPDATE passes SET stop = 'a' || rowid": "passes.stop holds a value of the kind text",
    "UPDATE passes SET document = 0.5 + rowid": "passes.document holds a value of the kind real",
    "UPDATE documents SET title = x'00'": "documents.title holds a value of the kind blob",
    "UPDATE cells SET value = 'a'": "cells.value holds a value of the kind text",
}


@pytest.mark.parametrize("statement", KINDS)
def test_a_value_of_another_kind_than_its_column_is_named(run_copy, statement):
    execute(run_copy, statement)
    with pytest.raises(StoreError, match=KINDS[statement]):
        _ = Run.read(run_copy).meta


@pytest.mark.parametrize("held", [[], [{"length": 256, "task": "vt", "samples": 3, "sha256": "0"}]])
def test_files_that_a_metric_names_are_not_opened(run_copy, tmp_path, monkeypatch, held):
    """Neither listed nor read, whatever the run says of them."""

    def opened(*_: Any) -> None:
        raise AssertionError("a file outside was looked at")

    monkeypatch.setitem(METRICS, "ruler", ruler.METRIC)
    for name in ("files", "lines", "digest"):
        monkeypatch.setattr(ruler.ruler_files, name, opened)
    asked_for(run_copy, {"perplexity": {}, "ruler": {"files": str(tmp_path), "held": held}})
    for read in (lambda: Run.read(run_copy).frame(), lambda: Run.read(run_copy).missing, lambda: verify_rows(run_copy)):
        with contextlib.suppress(RopewalkError):
            read()


def test_prompts_that_a_run_does_not_hold_are_not_made(run_copy, monkeypatch):
    """26,000 of them took 20 s."""

    def made(*_: Any) -> None:
        raise AssertionError("facts of prompts were made")

    monkeypatch.setitem(METRICS, "tasks", dataclasses.replace(METRICS["tasks"], facts=made))
    asked_for(run_copy, {"perplexity": {}, "tasks": {"samples": 2000, "generate": "all"}})
    recomputed, wrong = verify_rows(run_copy)
    assert wrong
    assert recomputed > 0
