"""What the verbs beside the nine of the campaign do with a directory of somebody else: status, merge, view, --reuse,
and suites, whose run directories are links."""

from __future__ import annotations

import contextlib
import http.client
import os
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ropewalk.errors import StoreError
from ropewalk.execution import reuse
from ropewalk.execution.status import status
from ropewalk.experiment import suite
from ropewalk.experiment.opening import SEAL
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store
from ropewalk.report.viewer import server


@pytest.mark.parametrize("time", ["of no kind", "2026-01-01", "9" * 99])
def test_times_that_nobody_writes(run_copy: Path, time: str) -> None:
    with contextlib.closing(sqlite3.connect(run_copy / "run.sqlite")) as db, db:
        for table in ("passes", "answers"):
            db.execute(f"UPDATE {table} SET finished_at = ?", [time])
        db.execute("UPDATE workers SET started_at = ?", [time])
    with pytest.raises(StoreError, match="does not fit together"):
        print(status(run_copy))


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_the_seal_of_a_reused_run_is_read_from_its_directory_alone(run_copy: Path, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "private.key"
    secret.write_text("a private key")
    (run_copy / SEAL).unlink(missing_ok=True)
    if kind == "link":
        (run_copy / SEAL).symlink_to(secret)
    else:
        os.mkfifo(run_copy / SEAL)
    with contextlib.closing(Store.open_run(run_copy)) as store:
        reuse._record(reuse.Other(Raw.read(store)), store, {"passes": 1, "answers": 0})  # type: ignore[arg-type]
        assert store.meta("reused")[0]["sha256"] is None


def test_a_run_of_a_suite_that_is_a_link_is_refused(run_copy: Path, tmp_path: Path) -> None:
    with contextlib.closing(Store.open_run(run_copy, read_only=True)) as store:
        experiment = Raw.read(store).experiment
    folder = tmp_path / "suite"
    suite.begin(suite.Suite(experiments={"strand": experiment}), folder)
    (folder / "strand").symlink_to(run_copy)
    with pytest.raises(StoreError, match="strand: is a link"):
        suite.members(folder)


@pytest.mark.parametrize("path", ["//[", "/%00", "/run/%2e%2e", "/run/" + "x" * 5000])
def test_odd_paths_get_an_answer(finished_run: Path, path: str, capfd: Any) -> None:
    serving = server(finished_run, 0, ())
    thread = Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    try:
        asked = http.client.HTTPConnection(*serving.server_address[:2], timeout=20)
        asked.putrequest("GET", path)
        asked.endheaders()
        with contextlib.closing(asked), asked.getresponse() as answer:
            assert answer.status == 404
    finally:
        serving.shutdown()
        serving.server_close()
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_that_goes_away_while_it_is_viewed(run_copy: Path, capfd: Any) -> None:
    serving = server(run_copy, 0, ())
    thread = Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    (run_copy / "run.sqlite").unlink()
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{serving.server_address[1]}/", timeout=20)
        assert refused.value.code == 500
        refused.value.close()
    finally:
        serving.shutdown()
        serving.server_close()
    assert "Traceback" not in capfd.readouterr().err
