"""Killed at any moment, out of memory, out of disk, raced: what is finished stays, and the rest is made up for."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import random
import sqlite3
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
import torch
import victims
from runs_for_tests import run as run_here

from ropewalk.errors import StoreError
from ropewalk.execution import worker
from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import Store
from ropewalk.experiment.verify import verify_rows
from ropewalk.scoring import decoding


@pytest.fixture(scope="module")
def processes():
    """Fast starts: a server that has everything imported forks the victims."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["victims", "transformers.models.llama.modeling_llama"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Python 3.11 does not tell the server
        forkserver.ensure_running()
    return context


@pytest.fixture
def start(processes):
    begun = []

    def make(target, *args):
        process = processes.Process(target=target, args=args)
        process.start()
        begun.append(process)
        return process

    yield make
    for process in begun:
        process.kill()
        process.join()
        process.close()


TABLES = {
    "cells": "label, method, asked, resolved, length, metric, fingerprint, value, ci_low, ci_high, n, status, reason",
    "passes": "fingerprint, document, start, bos, stop, status, reason, file, sha256",
    "prompts": "metric, length, place, request, facts",
    "answers": "fingerprint, request, status, reason, answer, predicted, text, nll",
    "schemes": "fingerprint, scheme",
    "documents": "document, id, title, kind, source, licence, sha256, tokens",
}


def content(out: Path) -> dict[str, object]:
    """Every stored row but its time, in order where order is shown, and every raw byte."""
    db = sqlite3.connect(out / "run.sqlite")
    found: dict[str, object] = {}
    for table, columns in TABLES.items():
        rows = db.execute(f"SELECT {columns} FROM {table}").fetchall()
        found[table] = rows if table == "cells" else sorted(rows, key=repr)
    found["documents_sha256"] = db.execute("SELECT value FROM meta WHERE key = 'documents_sha256'").fetchall()
    db.close()
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.suffix == ".safetensors")
    return found | {"files": {str(path.relative_to(out)): path.read_bytes() for path in files}}


def finished_passes(out: Path) -> dict[str, tuple[int, int]]:
    """Raw files that rows speak of: inode and time of writing."""
    if not Store.exists(out):
        return {}
    db = sqlite3.connect(out / "run.sqlite")
    names = [name for (name,) in db.execute("SELECT file FROM passes WHERE status = 'ok'")]
    db.close()
    return {name: ((out / name).stat().st_ino, (out / name).stat().st_mtime_ns) for name in names}


def finished_answers(out: Path) -> list[tuple[object, ...]]:
    if not Store.exists(out):
        return []
    db = sqlite3.connect(out / "run.sqlite")
    rows = db.execute("SELECT rowid, * FROM answers").fetchall()
    db.close()
    return rows


class TestKilled:
    @pytest.fixture(scope="class")
    @classmethod
    def asked(cls, base_experiment):
        return base_experiment | {"metrics": {**base_experiment["metrics"], "passkey": {"trials": 2}}}

    @pytest.fixture(scope="class")
    @classmethod
    def undisturbed(cls, asked, processes, tmp_path_factory):
        out = tmp_path_factory.mktemp("undisturbed") / "run"
        process = processes.Process(target=victims.sweep, args=(asked, out))
        process.start()
        process.join()
        assert process.exitcode == 0
        return content(out)

    def test_at_chosen_steps(self, asked, undisturbed, start, tmp_path):
        """Each resumed run is killed some steps after the last one was; a different offset each time."""
        out = tmp_path / "run"
        kept: dict[str, tuple[int, int]] = {}
        trials: list[tuple[object, ...]] = []
        kills = 0
        for die_at in [1, 2, 3, 9, 20, 40, 47, 58, 66, 75, 130]:
            process = start(victims.sweep, asked, out, die_at)
            process.join()
            kills += process.exitcode == -9
            now = finished_passes(out)
            assert kept.items() <= now.items()  # never lost, never written again
            assert set(trials) <= set(finished_answers(out))
            kept, trials = now, finished_answers(out)
        assert kills >= 8
        last = start(victims.sweep, asked, out)
        last.join()
        assert last.exitcode == 0
        assert content(out) == undisturbed
        assert not list(out.rglob("*.tmp"))
        assert verify_rows(out)[1] == []

    def test_at_random_moments(self, asked, undisturbed, start, tmp_path):
        out = tmp_path / "run"
        draw = random.Random(os.getpid())
        for _ in range(4):
            process = start(victims.sweep, asked, out)
            time.sleep(draw.uniform(0.1, 0.8))
            process.kill()
            process.join()
        last = start(victims.sweep, asked, out)
        last.join()
        assert last.exitcode == 0
        assert content(out) == undisturbed


def test_two_processes_on_one_directory(start, processes, base_experiment, tmp_path):
    out = tmp_path / "run"
    inside, go = processes.Event(), processes.Event()
    first = start(victims.hold, base_experiment, out, inside, go)
    assert inside.wait(60)
    with pytest.raises(StoreError) as refusal:
        run_here(base_experiment, out)
    assert str(refusal.value).startswith(f"{out}: is in use by process {first.pid} on ")
    assert str(refusal.value).endswith("; wait for it, or choose another --out.")
    go.set()
    first.join()
    assert first.exitcode == 0
    assert verify_rows(out)[1] == []
    assert run_here(base_experiment, out).missing.cells == 0


class TestOutOfMemory:
    """The model's body refuses more than so many tokens in a row."""

    @pytest.fixture
    def limit(self, monkeypatch):
        stock = worker.split
        allowed = {"tokens": 10**9, "rows": 10**9}

        def limited(model):
            parts = stock(model)

            def body(ids_BT, *more):
                if ids_BT.shape[1] > allowed["tokens"] or ids_BT.shape[0] > allowed["rows"]:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return parts.body(ids_BT, *more)

            return dataclasses.replace(parts, body=body)

        monkeypatch.setattr(worker, "split", limited)
        return allowed

    def test_what_fits_is_measured_and_the_rest_said(self, swept, limit, finished):
        limit["tokens"] = 200
        run = swept(metrics={"perplexity": {}})
        rows = {(row["label"], row["length"], row["metric"]): row for row in run.labelled_rows()}
        for row in Run.open(finished).labelled_rows():
            key = (row["label"], row["length"], row["metric"])
            if row["metric"] in ("longppl", "passkey"):
                continue
            if row["length"] == 192 or row["method"] == "truncate":
                assert rows[key]["value"] == pytest.approx(row["value"], rel=1e-5)
                assert rows[key]["status"] == "ok"
            else:
                assert rows[key]["status"] == "out_of_memory"
                assert rows[key]["reason"] == "a single row of 256 tokens did not fit in memory"
                assert (rows[key]["value"], rows[key]["ci_low"], rows[key]["n"]) == (None, None, 0)
        assert verify_rows(run.directory)[1] == []
        assert verify_passes(run.directory, 2)[1] == []

    def test_with_more_memory_the_same_command_makes_up_for_it(self, swept, limit, finished, tmp_path):
        limit["tokens"] = 200
        first = swept(metrics={"perplexity": {}, "passkey": {"trials": 3}})
        lost = {row["status"] for row in first.rows() if row["length"] == 256 and row["method"] == "yarn"}
        assert "out_of_memory" in lost
        before = finished_passes(first.directory)
        limit["tokens"] = 10**9
        run = swept(metrics={"perplexity": {}, "passkey": {"trials": 3}})
        assert before.items() <= finished_passes(run.directory).items()
        expected = {
            (row["label"], row["length"], row["metric"]): row["value"] for row in Run.open(finished).labelled_rows()
        }
        for row in run.labelled_rows():
            assert row["status"] == "ok"
            assert row["value"] == pytest.approx(expected[row["label"], row["length"], row["metric"]], rel=1e-5)
        assert verify_rows(run.directory)[1] == []

    def test_fewer_rows_at_a_time_give_the_same_numbers(self, swept, limit, finished):
        limit["rows"] = 1
        run = swept()
        for row, same in zip(run.rows(), Run.open(finished).rows(), strict=True):
            assert row["value"] == pytest.approx(same["value"], rel=1e-5)

    def test_generation_that_does_not_fit_is_a_failure_of_its_trial(self, swept, monkeypatch):
        def no_memory(*_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory.")

        monkeypatch.setattr(decoding, "generate", no_memory)
        monkeypatch.setattr(decoding, "_continued", no_memory)
        asked = {"metrics": {"passkey": {"trials": 2, "protocol": "yarn"}}, "lengths": [256], "methods": {"none": None}}
        (row,) = swept(**asked).rows()
        assert (row["status"], row["value"]) == ("out_of_memory", None)
        assert row["reason"].startswith("generating after ")
        monkeypatch.undo()
        (row,) = swept(**asked).rows()
        assert (row["status"], row["value"], row["n"]) == ("ok", 0.0, 2)


def test_a_loss_that_is_no_number_spoils_only_what_it_is_part_of(swept, monkeypatch):
    stock = worker.split

    def spoilt(model):
        parts = stock(model)

        def body(ids_BT, *more):
            hidden = parts.body(ids_BT, *more).clone()
            hidden[:, 220:] = float("nan")
            return hidden

        return dataclasses.replace(parts, body=body)

    monkeypatch.setattr(worker, "split", spoilt)
    run = swept(metrics={"perplexity": {}})
    status = {(row["length"], row["method"]): (row["status"], row["reason"]) for row in run.rows()}
    reason = "the loss at scored token 221 is nan; try dtype float32 or bfloat16"
    assert status[256, "yarn"] == ("error", reason)
    assert status[192, "yarn"] == ("ok", None)
    assert status[256, "truncate"] == ("ok", None)
    assert verify_rows(run.directory)[1] == []


def test_a_lost_raw_file_is_measured_again_and_nothing_else(swept):
    run = swept()
    before, rows = finished_passes(run.directory), run.rows()
    lost = sorted(before)[4]
    (run.directory / lost).unlink()
    with pytest.raises(StoreError, match=r"cannot be read \(No such file or directory\); run again to measure it"):
        run.samples()
    again = swept()
    after = finished_passes(again.directory)
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} == {lost}
    assert again.rows() == rows


def test_lost_documents_are_written_again(swept):
    run = swept()
    rows = run.rows()
    (run.directory / "documents.safetensors").unlink()
    assert swept().rows() == rows
    assert verify_rows(run.directory)[1] == []


def test_a_torn_raw_file_is_refused_to_readers_and_measured_again(swept, caplog):
    """One flipped bit in each kind of raw file: losses, documents, an evaluator's losses."""
    run = swept()
    rows, before = run.rows(), finished_passes(run.directory)
    for name in (sorted(before)[0], "documents.safetensors", "evaluator/1.safetensors"):
        path = run.directory / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert verify_rows(run.directory)[1][0].what == f"raw file {name}"
        if name != "evaluator/1.safetensors":
            with pytest.raises(StoreError) as refusal:
                Run.read(run.directory).samples()
            assert str(refusal.value).startswith(f"{path}: its sha256 is not ")
            assert str(refusal.value).endswith("was altered or torn; run again to measure it anew.")
        caplog.clear()
        assert swept().rows() == rows
        assert caplog.messages == [f"{run.directory}: {name} is gone or torn; it is measured again."]
        assert path.read_bytes() == data
        assert verify_rows(run.directory)[1] == []
    after = finished_passes(run.directory)
    assert {name for name in before if before[name] != after[name]} == {sorted(before)[0]}


class TestFullDisk:
    """ENOSPC at every kind of write: one sentence, nothing half-written, and room made, the run goes on."""

    @pytest.mark.parametrize("failing", ["fsync", "replace", "mkdir", "commit"])
    @pytest.mark.parametrize("at", [1, 2, 4])
    def test_one_sentence_and_resumable(self, swept, monkeypatch, tmp_path, finished, failing, at):
        calls = 0

        def full(function):
            def write(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls >= at:
                    if failing == "commit":
                        raise sqlite3.OperationalError("database or disk is full")
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return function(*args, **kwargs)

            return write

        with monkeypatch.context() as patch:
            if failing == "commit":
                patch.setattr(Store, "insert", full(Store.insert))
            else:
                patch.setattr(os, failing, full(getattr(os, failing)))
            with pytest.raises(StoreError) as refusal:
                swept()
        said = str(refusal.value)
        assert "\n" not in said
        assert said.endswith("finished work is kept.")
        assert ("No space left on device" in said) or ("database or disk is full" in said)
        assert not list(tmp_path.rglob("*.tmp"))
        run = swept()
        assert run.rows() == Run.open(finished).rows()
        assert verify_rows(run.directory)[1] == []


def test_resuming_a_finished_run_measures_nothing(swept, monkeypatch):
    run = swept()
    rows, before = run.rows(), finished_passes(run.directory)

    def no_work(*_, **__):
        pytest.fail("a pass was run again")
        yield

    for name in ("score", "score_shared"):
        monkeypatch.setattr(worker, name, no_work)
    again = swept()
    assert again.rows() == rows
    assert finished_passes(again.directory) == before
    assert np.isfinite(again.meta["wall_s"])
