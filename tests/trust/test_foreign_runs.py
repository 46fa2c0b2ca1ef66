"""A run directory made by somebody else: reading it, reporting on it and going on with it touch nothing outside."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import vl_convert
from harness import run

from ropewalk.cli import app, err
from ropewalk.errors import MethodError, StoreError
from ropewalk.execution.lock import locked
from ropewalk.experiment import opening
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import Store
from ropewalk.experiment.verify import verify_rows
from ropewalk.files import open_own, read_inside, read_regular, remove, remove_asides, write_whole
from ropewalk.methods import make_params
from ropewalk.report import write
from ropewalk.report.raster import flat
from ropewalk.report.study import read_to_choose
from ropewalk.terminal import run_app

VERBS = {
    "results": lambda directory: Run.read(directory).missing,
    "verify": verify_rows,
    "recommend": lambda directory: read_to_choose(directory, partial=True),
    "report": write.report,
}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(write, "png", lambda *_: b"")  # drawing takes seconds


@pytest.fixture
def precious(tmp_path) -> Path:
    """A file that nobody may touch."""
    path = tmp_path / "precious"
    path.write_bytes(b"precious")
    yield path
    assert path.read_bytes() == b"precious"


def altered(directory: Path, statement: str, *values: object) -> None:
    db = sqlite3.connect(directory / "run.sqlite")
    with db:
        db.execute(statement, values)
    db.close()


def hot_journal(directory: Path, scratch: Path, tail: bytes) -> None:
    """Leave what a kill in the middle of a large commit leaves, and append to its journal."""
    store = Store.open_run(directory)
    store._db.execute("PRAGMA cache_size = 4")  # pages, so that the transaction reaches the file early
    store._db.execute("BEGIN IMMEDIATE")
    for index in range(200):
        store.set_meta(f"filler {index}", "x" * 5000)
    shutil.copytree(directory, scratch)
    store._db.rollback()
    store.close()
    shutil.rmtree(directory)
    scratch.rename(directory)
    with (directory / "run.sqlite-journal").open("ab") as journal:
        journal.write(tail)


def naming(path: Path) -> bytes:
    """The end of a journal that names another one, as SQLite writes it."""
    name = str(path).encode()
    checksum = sum(byte if byte < 128 else byte - 256 for byte in name) & 0xFFFFFFFF
    page = (1073741824 // 4096 + 1).to_bytes(4, "big")  # the page of the lock, which no record is of
    return page + name + len(name).to_bytes(4, "big") + checksum.to_bytes(4, "big") + opening.MAGIC


class TestJournals:
    @pytest.mark.parametrize("verb", VERBS)
    def test_one_that_names_a_file_is_refused(self, run_copy, tmp_path, precious, verb):
        hot_journal(run_copy, tmp_path / "scratch", naming(precious))
        with pytest.raises(StoreError, match="journal: names a file that SQLite would delete; name another directory"):
            VERBS[verb](run_copy)

    def test_going_on_is_refused_too(self, base_experiment, run_copy, tmp_path, precious):
        hot_journal(run_copy, tmp_path / "scratch", naming(precious))
        with pytest.raises(StoreError, match="names a file that SQLite would delete"):
            run(base_experiment, run_copy)

    def test_without_the_refusal_sqlite_deletes_it(self, run_copy, tmp_path):
        """That the journals above are what they say."""
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        hot_journal(run_copy, tmp_path / "scratch", naming(victim))
        db = sqlite3.connect(run_copy / "run.sqlite")
        db.execute("SELECT COUNT(*) FROM cells").fetchall()
        db.close()
        assert not victim.exists()

    @pytest.mark.parametrize("verb", VERBS)
    def test_readers_change_no_byte(self, run_copy, tmp_path, verb):
        hot_journal(run_copy, tmp_path / "scratch", b"")
        before = {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()}
        with pytest.raises(StoreError, match="only its writer may undo that"):
            VERBS[verb](run_copy)
        assert {path: path.read_bytes() for path in run_copy.rglob("*") if path.is_file()} == before

    def test_a_log_written_ahead_is_refused(self, run_copy, precious):
        db = sqlite3.connect(run_copy / "run.sqlite")
        db.execute("PRAGMA journal_mode = WAL")
        db.close()
        (run_copy / "run.sqlite-shm").symlink_to(precious)
        with pytest.raises(StoreError, match="keeps its log as a file of its own, which no run does"):
            Run.open(run_copy)

    @pytest.mark.parametrize("name", ["run.sqlite", "run.sqlite-journal"])
    def test_links_and_pipes_in_place_of_the_database(self, run_copy, tmp_path, name):
        path = run_copy / name
        if path.exists():
            path.rename(tmp_path / name)
            path.symlink_to(tmp_path / name)
        else:
            os.mkfifo(path)
        with pytest.raises(StoreError, match="is a link or no file, which no run has"):
            Run.open(run_copy)

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TABLE other (x, y AS (zeroblob(1000000000)))",
            "CREATE INDEX slow ON cells (hex(randomblob(9)))",
            "CREATE VIRTUAL TABLE words USING fts5(x)",
        ],
    )
    def test_tables_of_no_run_are_refused(self, run_copy, statement):
        try:
            altered(run_copy, statement)
        except sqlite3.OperationalError:
            altered(run_copy, "CREATE TABLE other (x)")
        with pytest.raises(StoreError, match="which no run does"):
            Run.open(run_copy)

    def test_pages_that_are_reached_twice_are_no_endless_table(self, run_copy):
        path = run_copy / "run.sqlite"
        raw = bytearray(path.read_bytes())
        size = int.from_bytes(raw[16:18], "big")
        page = next(at for at in range(size, len(raw), size) if raw[at] == 5)  # of a table, with pages below
        raw[page + 8 : page + 12] = raw[page + 12 : page + 14] * 2
        cells = [page + int.from_bytes(raw[page + at : page + at + 2], "big") for at in range(12, 16, 2)]
        raw[cells[1] : cells[1] + 4] = raw[cells[0] : cells[0] + 4]
        path.write_bytes(raw)
        with pytest.raises(StoreError, match="is no readable database"):
            Run.open(run_copy)


class TestFiles:
    def test_nothing_is_written_through_a_link(self, run_copy, tmp_path, precious):
        (run_copy / "report.html").symlink_to(precious)
        for name in ("report.html", "report.md"):
            (run_copy / f"{name}.{os.getpid()}.tmp").symlink_to(precious)
        write.report(run_copy)
        assert not (run_copy / "report.html").is_symlink()

    def test_no_picture_is_written_or_removed_in_a_folder_that_is_a_link(self, run_copy, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "pareto.png").write_bytes(b"precious")
        (run_copy / "figures").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match=r"figures: the report cannot be written \(a link or no directory\)"):
            write.report(run_copy)
        assert [path.read_bytes() for path in (tmp_path / "elsewhere").iterdir()] == [b"precious"]

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_the_lock_empties_no_other_file(self, run_copy, precious, link):
        (run_copy / "run.lock").unlink()
        link(precious, run_copy / "run.lock")
        with (
            pytest.raises(
                StoreError, match=r"cannot be written \((Too many levels of symbolic links|it is no file of its own)\)"
            ),
            locked(run_copy),
        ):
            pass

    def test_going_on_cleans_no_folder_that_is_a_link(self, base_experiment, run_copy, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        for name in ("mine.tmp", ".a.png.0123456789abcdef.tmp"):
            (tmp_path / "elsewhere" / name).write_bytes(b"precious")
        (run_copy / "figures").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="a link or no directory"):
            run(base_experiment, run_copy)
        assert len(list((tmp_path / "elsewhere").iterdir())) == 2

    def test_a_raw_file_that_is_a_link_is_not_read(self, run_copy, tmp_path):
        for path in (run_copy / "nll").iterdir():
            path.rename(tmp_path / path.name)
            path.symlink_to(tmp_path / path.name)
        assert "cannot be read (Too many levels of symbolic links)" in verify_rows(run_copy)[1][0].found

    @pytest.mark.parametrize("name", ["/etc/passwd", "../x", "nll/../../x", "", "nll//x", "nll/"])
    def test_names_outside(self, run_copy, name):
        for call in (read_inside, lambda *given: write_whole(*given[:2], b"x")):
            with pytest.raises(OSError, match="it lies outside the directory"):
                call(run_copy, name, 10)

    def test_pipes_devices_and_large_files_are_not_read(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
            with pytest.raises(OSError, match="it is no regular file"):
                read_regular(path, 100)
        (tmp_path / "large").write_bytes(b"x" * 101)
        with pytest.raises(OSError, match="it has more than 100 bytes"):
            read_regular(tmp_path / "large", 100)
        with pytest.raises(OSError, match="more than 100 bytes"):
            read_regular(Path("/proc/self/smaps"), 100)  # whose size is said to be 0

    def test_own_asides_alone_are_removed(self, tmp_path):
        (tmp_path / "nll").mkdir()
        for name in (".a.0123456789abcdef.tmp", "mine.tmp", "nll/.b.0123456789abcdef.tmp"):
            (tmp_path / name).write_bytes(b"")
        remove_asides(tmp_path, ("nll", "figures"))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.tmp", "nll"]
        assert list((tmp_path / "nll").iterdir()) == []

    def test_a_pipe_is_no_lock_and_a_link_is_removed_itself(self, tmp_path, precious):
        os.mkfifo(tmp_path / "run.lock")
        with pytest.raises(OSError, match="it is no file of its own"):
            open_own(tmp_path, "run.lock")
        (tmp_path / "link").symlink_to(precious)
        remove(tmp_path, "link")
        assert not (tmp_path / "link").is_symlink()


class TestWhatARunCarries:
    def names_a_file(self, directory, path):
        db = sqlite3.connect(directory / "run.sqlite")
        with db:
            db.execute(
                "UPDATE meta SET value = json_set(value, '$.experiment.methods.searched', json(?)) "
                "WHERE key = 'identity'",
                [f'{{"file": "{path}"}}'],
            )
        db.close()

    @pytest.mark.parametrize("verb", VERBS)
    def test_no_rotation_is_read_from_a_file_that_a_run_names(self, run_copy, tmp_path, verb):
        (tmp_path / "secret.json").write_text('{"private": 1}', encoding="utf-8")
        self.names_a_file(run_copy, tmp_path / "secret.json")
        with pytest.raises(StoreError) as refusal:
            VERBS[verb](run_copy)
        assert "private" not in str(refusal.value)

    def test_a_pipe_does_not_stop_the_reader(self, run_copy, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        self.names_a_file(run_copy, tmp_path / "pipe")
        with pytest.raises(StoreError, match=r"cannot be planned again: searched: file=.* names a file"):
            verify_rows(run_copy)

    def test_content_alone_makes_parameters(self, tmp_path):
        with pytest.raises(MethodError, match="names a file, and only an experiment file or an argument may"):
            make_params("searched", {"file": str(tmp_path / "winner.json")})

    def test_verify_opens_model_and_documents_on_the_readers_word_alone(self, run_copy, monkeypatch, capsys):
        opened = []
        monkeypatch.setattr("ropewalk.execution.rerun.prepare", lambda *_, **__: opened.append(1))
        monkeypatch.setattr("sys.argv", ["ropewalk", "verify", str(run_copy)])
        assert run_app(app, err) == 0
        assert opened == []
        assert "--cells" in capsys.readouterr().err


class TestOutput:
    CODES = "\x1b]0;title\x07\x9b31mred\u202etxt"

    @pytest.fixture
    def coded(self, run_copy):
        altered(run_copy, "UPDATE documents SET title = title || ?, id = id || ?", self.CODES, self.CODES)
        altered(run_copy, "UPDATE cells SET reason = ?", self.CODES)
        return run_copy

    @pytest.mark.parametrize(
        "arguments",
        [["results"], ["results", "--json"], ["results", "--csv"], ["recommend", "--length", "256"], ["verify"]],
    )
    def test_no_code_reaches_the_terminal(self, coded, monkeypatch, capsys, arguments):
        monkeypatch.setattr("sys.argv", ["ropewalk", arguments[0], str(coded), *arguments[1:]])
        run_app(app, err)
        said = "".join(capsys.readouterr())
        assert len(said) > 100
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)

    def test_no_code_stands_in_markdown(self, coded):
        write.report(coded)
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set((coded / "report.md").read_text(encoding="utf-8"))

    def test_codes_are_drawn_as_escapes(self):
        spec = {"data": {"values": [{"a": "y\ud800\x1b[2J", "b": 1}]}, "mark": "bar"}
        spec["encoding"] = {"x": {"field": "a"}, "y": {"field": "b"}}
        spec["$schema"] = "https://vega.github.io/schema/vega-lite/v5.json"
        assert vl_convert.svg_to_png(flat(write.svg(spec, {}))).startswith(b"\x89PNG")

    def test_limited_address_space_is_said(self, run_copy):
        line = f'ulimit -v 33554432; exec "{sys.executable}" -m ropewalk report "{run_copy}"'
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == (
            "ropewalk: charts: the library that draws them reserves 134217728 kB of addresses (not of memory), and "
            "ulimit -v grants 33554432; lift that limit for this command.\n"
        )
        assert not (run_copy / "report.html").exists()
