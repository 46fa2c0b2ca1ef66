"""A run that was interrupted after any tenth of its passes and trials: every reader says first what is missing, no
choice comes from it unasked or unmarked, and nothing gives a traceback."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import threading

import pytest

import ropewalk as rw
from ropewalk.errors import UnfinishedRun
from ropewalk.execution import status
from ropewalk.execution.lock import locked
from ropewalk.experiment import todo
from ropewalk.experiment.raw import Raw, write_cells
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import Store

CELLS = 32


def cut(directory, tenth):
    """Leave what a run had stored when it was killed after this tenth of its passes and trials."""
    with contextlib.closing(Store.open_run(directory)) as store, store.transaction():
        rows = [("passes", row) for (row,) in store.rows("SELECT rowid FROM passes ORDER BY rowid")]
        rows += [("answers", row) for (row,) in store.rows("SELECT rowid FROM answers ORDER BY rowid")]
        for table, row in rows[len(rows) * tenth // 10 :]:
            store._db.execute(f"DELETE FROM {table} WHERE rowid = ?", [row])
        store._db.execute("DELETE FROM cells")
        raw = Raw.read(store)
        plan = raw.plan()
        busy = {task.fingerprint for task in todo.passes(plan, raw.index)}
        write_cells(store, raw, (c for c in plan.cells if c.metric == "passkey" or c.fingerprint not in busy))


@pytest.fixture
def said_first(ropewalk):
    """A command's output; its stderr begins with what is missing, how many of how many, and how to go on."""

    def call(*arguments, before=""):
        said = ropewalk(*arguments)
        assert "Traceback" not in said.err
        words = said.err.removeprefix(before).split()
        assert words[1:7] == ["of", str(CELLS), "cells", "are", "not", "measured"], said.err
        assert "goes on where it stopped" in said.err.splitlines()[0]
        return said

    return call


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes longer than all else here, and says nothing."""
    monkeypatch.setattr("ropewalk.report.write.png", lambda drawn: b"")


@pytest.mark.parametrize("tenth", range(10))
def test_every_reader_of_a_run_interrupted_after_any_tenth(tenth, finished_copy, said_first, refused, no_pictures):
    cut(finished_copy, tenth)
    missing = Run.read(finished_copy).missing
    assert 0 < missing.cells <= CELLS == missing.asked
    sentence = str(missing)

    rows = json.loads(said_first("results", finished_copy, "--json").out)
    assert len(rows) == CELLS - missing.cells
    assert said_first("results", finished_copy).code == said_first("results", finished_copy, "--csv").code == 0
    checked = said_first("verify", finished_copy, "--cells", 0)
    assert checked.code == 1
    assert checked.out.startswith(f"{len(rows)} of {CELLS} cells recomputed")
    assert said_first("compare", finished_copy, finished_copy, before="A: ").code == (0 if rows else 2)

    said = refused("recommend", finished_copy, "--length", 256)
    assert said == f"{finished_copy}: {sentence.rstrip('.')}; --partial chooses from what there is."
    assert refused("export", finished_copy, "--length", 256, "--target", "vllm") == said

    assert said_first("report", finished_copy).code == 0
    html = (finished_copy / "report.html").read_text().replace("&#39;", "'")
    assert 0 < html.index(sentence) < html.index('<p class="headline">There is no answer yet.</p>')
    text = (finished_copy / "report.md").read_text().replace("\\", "")
    assert 0 < text.index(sentence) < text.index("## The answer\n\nThere is none: ")


@pytest.mark.parametrize("tenth", [5, 9])
def test_a_choice_that_was_asked_for_is_marked(tenth, finished_copy, said_first, ropewalk, no_pictures):
    cut(finished_copy, tenth)
    sentence = str(Run.read(finished_copy).missing)
    said = said_first("recommend", finished_copy, "--length", 256, "--partial")
    assert said.code == 0
    assert said.out.splitlines()[0] == f"From part of a run: {sentence}"
    assert said.out.splitlines()[1].startswith(("For 256 tokens, ", "Nothing to choose"))
    found = json.loads(said_first("recommend", finished_copy, "--length", 256, "--partial", "--json").out)
    assert found["cells_missing"] == Run.read(finished_copy).missing.cells
    exported = ropewalk("export", finished_copy, "--length", 256, "--target", "vllm", "--partial")
    assert exported.err.startswith(f"From part of a run: {sentence}")
    assert ropewalk("report", finished_copy, "--partial").code == 0
    text = (finished_copy / "report.md").read_text().replace("\\", "")
    assert text.index(sentence) < text.index("Confidence: ")


@pytest.mark.parametrize("format", ["table", "md"])
def test_tables_of_a_part_say_so_themselves(format, finished_copy, ropewalk):
    cut(finished_copy, 5)
    said = ropewalk("results", finished_copy, "--format", format, "--partial")
    assert " ".join(said.out.split()).startswith(f"From part of a run: {Run.read(finished_copy).missing} ")
    assert (said.code, said.err) == (0, "")
    plain = ropewalk("results", finished_copy, "--format", format)
    assert said.out.endswith(plain.out)
    assert json.loads(ropewalk("results", finished_copy, "--partial", "--json").out)


def test_python_is_warned_and_the_tables_agree(finished_copy):
    cut(finished_copy, 5)
    with pytest.warns(UnfinishedRun, match=r"/copy: \d+ of 32 cells are not measured yet; `ropewalk.sweep` with the"):
        run = rw.Run.open(finished_copy)
    known = {(row["label"], row["length"], row["metric"]) for row in run.labelled_rows()}
    samples = run.samples()
    assert {*zip(samples["label"], samples["length"], samples["metric"], strict=True)} <= known
    assert {(label, 256, "perplexity") for label in run.curve()["label"]} <= known


@pytest.mark.parametrize("exact", [False, True])
def test_the_command_that_goes_on_needs_the_directory_alone(file, exact, tmp_path, ropewalk, no_pictures):
    out = tmp_path / "a run"
    assert ropewalk("run", file(methods={"linear": {"factor": 2}}), "--out", out, *["--exact"] * exact).code == 0
    whole = Run.read(out).rows()
    cut_passes(out)
    assert str(Run.read(out).missing).endswith(f"; `ropewalk resume '{out}'` goes on where it stopped.")
    (tmp_path / "experiment.yaml").unlink()
    said = ropewalk("resume", out)
    assert said.code == 0
    assert f"next: ropewalk report '{out}'" in said.err
    assert Run.read(out).rows() == whole


def cut_passes(directory):
    with contextlib.closing(Store.open_run(directory)) as store, store.transaction():
        store._db.execute("DELETE FROM cells")
        store._db.execute("DELETE FROM passes")


def test_while_a_process_is_at_it_nobody_is_told_to_resume(finished_copy):
    cut(finished_copy, 5)
    assert str(Run.read(finished_copy).missing).endswith("goes on where it stopped.")
    before = sorted(finished_copy.iterdir())
    with locked(finished_copy):
        assert str(Run.read(finished_copy).missing).endswith(" not measured yet; they are being measured now.")
        assert sorted(finished_copy.iterdir()) == sorted({*before, finished_copy / "run.lock"})
    assert str(Run.read(finished_copy).missing).endswith("goes on where it stopped.")


def test_a_reader_who_looks_at_the_lock_turns_no_driver_away(finished_copy):
    with locked(finished_copy):
        pass
    reader = os.open(finished_copy / "run.lock", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    threading.Timer(0.05, os.close, [reader]).start()
    with locked(finished_copy):
        pass


def test_a_finished_run_is_gone_on_with_by_nobody(file, tmp_path, ropewalk, monkeypatch):
    out = tmp_path / "run"
    assert ropewalk("run", file(), "--out", out).code == 0
    before = (out / "run.sqlite").read_bytes()
    monkeypatch.setattr("ropewalk.execution.lease.prepare", None)
    said = ropewalk("resume", out)
    assert (said.code, said.err.splitlines()[0]) == (0, f"{out}: every cell is measured, nothing is left to do")
    assert (out / "run.sqlite").read_bytes() == before


@pytest.mark.parametrize("what", ["no canary at its end", "a torn file"])
def test_a_run_that_only_seems_finished_is_gone_on_with(what, file, tmp_path, ropewalk):
    out = tmp_path / "run"
    assert ropewalk("run", file(), "--out", out).code == 0
    if what == "a torn file":
        next(out.glob("nll/*")).write_bytes(b"torn")
    else:
        with contextlib.closing(Store.open_run(out)) as store, store.transaction():
            known = store.meta("canary")
            store.set_meta("canary", known | {"checks": known["checks"][:-1]})
    assert "nothing is left to do" not in ropewalk("resume", out).err
    assert "nothing is left to do" in ropewalk("resume", out).err


def test_a_worker_that_did_nothing_is_listed_only_while_the_run_goes_on():
    idle = status.Hand(worker=2, device="cpu", outcomes=0, failures=0, per_s=None, last=None)
    done = status.Status(done=5, total=5, failures=0, workers=(idle,), left_s=None, silent_s=None)
    assert len(status.lines(done)) == 1
    assert status.lines(dataclasses.replace(done, done=4))[1] == "worker 2 on cpu: 0 outcomes, none yet"


def test_a_run_gives_no_consent_to_code_of_others(file, tmp_path, ropewalk, refused):
    out = tmp_path / "run"
    assert ropewalk("run", file(), "--out", out).code == 0
    cut_passes(out)
    with contextlib.closing(Store.open_run(out)) as store, store.transaction():
        identity = store.meta("identity")
        model = {"id": identity["experiment"]["model"], "trust_remote_code": True}
        store.set_meta("identity", identity | {"experiment": identity["experiment"] | {"model": model}})
    assert refused("resume", out) == (
        f"{out}: was made with trust_remote_code, to which a run directory cannot consent; go on with "
        f"`ropewalk run FILE --out {out}`."
    )
    assert f"`ropewalk run FILE --out {out}` with the same file" in str(Run.read(out).missing)


def test_an_interrupt_says_what_is_left(file, tmp_path, ropewalk, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ropewalk.execution.worker.Worker.row", stop)
    said = ropewalk("run", file(), "--out", tmp_path / "run")
    assert said.code == 130
    assert said.err.startswith(f"20 of 20 cells are not measured yet; `ropewalk resume {tmp_path / 'run'}` ")
    assert said.err.endswith("goes on from there.\n")


def test_nothing_is_missing_in_a_finished_run(finished_run, ropewalk):
    assert ropewalk("results", finished_run, "--csv").err == ""
    assert ropewalk("verify", finished_run, "--cells", 0).code == 0
    assert 'cells_missing": 0' in ropewalk("recommend", finished_run, "--length", 256, "--json").out


def test_verify_of_a_run_without_outcomes_is_no_success(finished_copy, ropewalk):
    shutil.rmtree(finished_copy / "nll")
    cut(finished_copy, 0)
    said = ropewalk("verify", finished_copy)
    assert said.code == 1
    assert said.err.startswith("32 of 32 cells are not measured yet; ")
    assert said.out.startswith("0 of 32 cells recomputed from raw outcomes, 0 passes and trials run again: no mismatch")
