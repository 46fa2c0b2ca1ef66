"""What disks, other programs, clocks and devices do to a run: one sentence, nothing lost, and the run goes on."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import resource
import signal
import sqlite3
import threading
from pathlib import Path

import pytest
import torch
from harness import run, statuses

import ropewalk
from ropewalk.errors import StoreError
from ropewalk.execution import canary, worker, writer
from ropewalk.execution import run as running
from ropewalk.experiment import store
from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows
from ropewalk.report.write import report


def raw_files(directory) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*.safetensors"))}


class TestDeterminism:
    def test_same_seed_same_rows_and_same_raw_losses_to_the_bit(self, base_experiment, finished_run, tmp_path):
        again = run(base_experiment, tmp_path / "run")
        assert again.rows() == Run.open(finished_run).rows()  # floats compared by ==
        assert raw_files(again.directory) == raw_files(finished_run)

    def test_another_seed_is_noticed(self, base_experiment, finished_run, tmp_path):
        other = run(base_experiment | {"seed": 4}, tmp_path / "run")
        keys = "SELECT facts FROM prompts ORDER BY rowid"
        found = []
        for directory in (other.directory, finished_run):
            with contextlib.closing(sqlite3.connect(directory / "run.sqlite")) as db:
                found.append(db.execute(keys).fetchall())
        assert found[0] != found[1]


class TestReaders:
    @contextlib.contextmanager
    def reading(self, directory):
        db = sqlite3.connect(directory / "run.sqlite", isolation_level=None, check_same_thread=False)
        db.execute("BEGIN")
        db.execute("SELECT * FROM cells").fetchone()
        try:
            yield db
        finally:
            db.close()

    def test_a_reader_that_stays_is_named_as_the_cause(self, base_experiment, run_copy, monkeypatch):
        monkeypatch.setattr(store, "BUSY_S", 0.1)
        rows = Run.open(run_copy).rows()
        with self.reading(run_copy), pytest.raises(StoreError) as refusal:
            run(base_experiment, run_copy)
        assert str(refusal.value) == (
            f"{run_copy / 'run.sqlite'}: cannot be written (database is locked); close other programs that use it, "
            "free space, then run again: finished work is kept."
        )
        assert run(base_experiment, run_copy).rows() == rows

    def test_a_reader_that_goes_is_waited_for(self, base_experiment, run_copy):
        with self.reading(run_copy) as db:
            threading.Timer(0.5, db.close).start()
            assert run(base_experiment, run_copy).missing.cells == 0


@pytest.fixture
def as_anyone():
    """Without root's right to write everywhere; for others nothing changes."""

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    libc = ctypes.CDLL(None, use_errno=True)
    header, before = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(ctypes.byref(header), before) == 0
    without = (ctypes.c_uint32 * 6)(before[0] & ~0b10, *before[1:])  # CAP_DAC_OVERRIDE is bit 1
    assert libc.capset(ctypes.byref(header), without) == 0
    yield
    assert libc.capset(ctypes.byref(header), before) == 0


class TestReadOnly:
    @pytest.fixture
    def sealed(self, run_copy, as_anyone):
        paths = [run_copy, *(path for path in run_copy.rglob("*"))]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield run_copy
        for path in paths:
            path.chmod(0o755)

    def test_a_new_run_is_refused(self, base_experiment, sealed):
        with pytest.raises(StoreError) as refusal:
            run(base_experiment, sealed / "nll" / "new")
        assert str(refusal.value) == (
            f"{sealed / 'nll' / 'new'}: cannot be written (Permission denied); free space or choose another directory "
            "with --out, then run again: finished work is kept."
        )

    def test_resuming_is_refused(self, base_experiment, sealed):
        with pytest.raises(StoreError, match="cannot be written"):
            run(base_experiment, sealed)

    def test_reading_and_verifying_work(self, sealed, finished_run):
        assert Run.open(sealed).rows() == Run.open(finished_run).rows()
        assert verify_rows(sealed)[1] == []

    def test_a_report_is_refused(self, sealed, monkeypatch):
        monkeypatch.setattr("ropewalk.report.write.png", lambda *_: b"")  # drawing takes seconds
        with pytest.raises(StoreError, match="the report cannot be written"):
            report(sealed)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_may_not_grow(base_experiment, finished_run, tmp_path, share):
    """A real refusal by the kernel, as of a quota, at some part of the database's final size."""
    limit = int(share * (finished_run / "run.sqlite").stat().st_size)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot be written \(.*\); .*: finished work is kept\.$"):
            run(base_experiment, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.rglob("*.tmp"))
    assert run(base_experiment, tmp_path / "run").rows() == Run.open(finished_run).rows()


def test_a_clock_that_goes_backwards(base_experiment, finished_run, tmp_path, monkeypatch):
    hours = iter(range(100_000, 0, -1))

    def earlier() -> str:
        return f"{2000 + (hour := next(hours)) // 8760}-01-01T{hour % 24:02}:00:00+00:00"

    for module in (writer, running, canary):
        monkeypatch.setattr(module, "now", earlier)
    monkeypatch.setattr("time.time", lambda: float(next(hours)))
    asked = base_experiment | {"metrics": {"perplexity": {}, "passkey": {"trials": 3}}}
    first = run(asked, tmp_path / "run")
    again = run(asked, tmp_path / "run")
    expected = [row for row in Run.open(finished_run).rows() if row["metric"] != "longppl"]
    assert first.rows() == again.rows() == expected
    assert again.meta["wall_s"] >= 0
    assert verify_rows(again.directory)[1] == []


@pytest.mark.parametrize("fits", [1, 2, 3, 5, 8])
def test_out_of_memory_at_each_batch_size(base_experiment, finished_run, tmp_path, monkeypatch, fits):
    """The device takes up to so many rows; 16 are tried."""
    stock, tried = worker.split, []

    def limited(model):
        parts = stock(model)

        def body(ids_BT, *more):
            tried.append(len(ids_BT))
            if len(ids_BT) > fits:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return parts.body(ids_BT, *more)

        return dataclasses.replace(parts, body=body)

    monkeypatch.setattr(worker, "split", limited)
    monkeypatch.setattr(worker, "batch_tokens", lambda *_: 16 * 256)
    found = run(base_experiment, tmp_path / "run")
    assert max(tried) > fits
    assert statuses(found) == {"ok"}
    for row, same in zip(found.rows(), Run.open(finished_run).rows(), strict=True):
        assert row["value"] == pytest.approx(same["value"], rel=1e-5)


def test_an_error_of_the_device_is_no_result(base_experiment, tmp_path, monkeypatch):
    """Anything but exhausted memory ends the run; what was finished is kept, what was not has no value."""
    stock = worker.split

    def broken(model):
        parts = stock(model)

        def body(ids_BT, *more):
            if ids_BT.shape[1] == 192:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return parts.body(ids_BT, *more)

        return dataclasses.replace(parts, body=body)

    monkeypatch.setattr(worker, "split", broken)
    asked = base_experiment | {"methods": {"dynamic_ntk": {"factor": 2}}, "metrics": {"perplexity": {}}}
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run(asked, tmp_path / "run")
    assert verify_rows(tmp_path / "run")[1] == []
    monkeypatch.undo()
    assert run(asked, tmp_path / "run").missing.cells == 0


def test_worker_processes_and_threads_are_where_their_deaths_are_tested():
    """Elsewhere all passes run in the main thread; tests/experiment/test_executors.py ends workers in every way."""
    root = Path(ropewalk.__file__).parent
    words = ("threading", "concurrent.futures", "multiprocessing", "asyncio")
    found = {path.name for path in root.rglob("*.py") for word in words if f"import {word}" in path.read_text()}
    assert found == {"processes.py"}
