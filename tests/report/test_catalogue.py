"""One page over many runs, and the server that shows them to this machine alone."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import sqlite3
import threading

import pytest

from ropewalk.errors import StoreError
from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.report import catalogue, viewer


@pytest.fixture(scope="module")
def folder(base_experiment, tmp_path_factory):
    """Two runs, of which one lies deeper and lacks cells, and one that is none."""
    folder = tmp_path_factory.mktemp("runs")
    asked = base_experiment | {"metrics": {"perplexity": {}}}
    sweep(ask(schema.parse(asked, "test")), folder / "a <b>")
    shutil.copytree(folder / "a <b>", folder / "deep" / "er")
    with contextlib.closing(sqlite3.connect(folder / "deep" / "er" / "run.sqlite")) as database:
        database.execute("DELETE FROM cells WHERE length = 256")
        database.commit()
    (folder / "torn").mkdir()
    (folder / "torn" / "run.sqlite").write_bytes(b"no database")
    return folder


def test_every_run_has_its_line(folder):
    found = [catalogue.entry(folder, run) for run in catalogue.runs(folder)]
    assert [each.name for each in found] == ["a <b>", "deep/er", "torn"]
    assert found[0].says.startswith(("For 256 tokens", "Nothing to choose"))
    assert "not measured yet" in found[1].says
    assert "no readable database" in found[2].says
    page = catalogue.write(folder).read_text(encoding="utf-8")
    assert "a &lt;b&gt;" in page
    assert "<b>" not in page
    assert "href" not in page.split("<main>")[1], "no run has a report yet"


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"holds no run, nor do the folders in it; name one that `ropewalk run` wrote"):
        catalogue.write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def get(folder):
    with viewer.server(folder, 0, ["hf"]) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def call(path, host="127.0.0.1:80"):
            connection = http.client.HTTPConnection(*serving.server_address)
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            found = answer.status, dict(answer.headers), answer.read().decode()
            connection.close()
            return found

        assert serving.server_address[0] == "127.0.0.1"
        yield call
        serving.shutdown()
        thread.join()


def test_the_server_shows_pages_and_nothing_else(get):
    status, headers, page = get("/")
    assert status == 200
    assert "Refresh" not in headers
    assert headers["Content-Length"] == str(len(page.encode()))
    assert 'href="/run/a%20%3Cb%3E"' in page
    status, headers, page = get("/run/a%20%3Cb%3E")
    assert status == 200
    assert "Refresh" not in headers
    assert "Loss by position" in page
    assert get("/run/deep/er")[1]["Refresh"] == "20"
    assert get("/run/torn")[0] == 500
    for path in (
        "/run/../a",
        "/run.sqlite",
        "/run/a%20%3Cb%3E/run.sqlite",
        "/../../etc/passwd",
        "/run/%2e%2e",
        "/run/",
    ):
        assert get(path)[0] == 404, path


def test_another_name_that_points_here_is_refused(get):
    assert get("/", host="evil.example:80")[0] == 403
    assert get("/", host="localhost:8000")[0] == 200


def test_runs_are_found_three_folders_down_and_no_deeper(tmp_path):
    for place in ("one", "a/b/c", "d/e/f/g"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "run.sqlite").touch()
    assert [str(run.relative_to(tmp_path)) for run in catalogue.runs(tmp_path)] == ["a/b/c", "one"]
