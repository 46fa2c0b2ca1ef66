"""A grown run takes what another one has measured, measures the rest, and stands every check that a run stands."""

from __future__ import annotations

import shutil
import sqlite3

import numpy as np
import pytest
from runs_for_tests import run
from typer.testing import CliRunner

import ropewalk as rw
from ropewalk.cli import app
from ropewalk.errors import StoreError
from ropewalk.execution.rerun import verify_passes
from ropewalk.execution.worker import Worker
from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows

GROWN = {"yarn": {"factor": [2, 4]}, "linear": {"factor": 2}}


@pytest.fixture
def measured(monkeypatch):
    """Tasks that models were given to measure."""
    tasks = []
    stock = Worker.run

    def watched(self, chunk):
        tasks.extend(chunk.tasks)
        return stock(self, chunk)

    monkeypatch.setattr(Worker, "run", watched)
    return tasks


def altered(run_directory, sql, *values):
    """A run with other facts than it was measured with."""
    db = sqlite3.connect(run_directory / "run.sqlite")
    assert db.execute(sql, values).rowcount > 0
    db.commit()
    db.close()


class TestGrown:
    @pytest.fixture(scope="class")
    @classmethod
    def anew(cls, base_experiment, tmp_path_factory):
        return run(base_experiment | {"methods": GROWN}, tmp_path_factory.mktemp("anew") / "run")

    @pytest.fixture
    def grown(self, experiment, finished, measured, tmp_path):
        return run(experiment(methods=GROWN), tmp_path / "grown", reuse=finished)

    def test_only_what_is_new_is_measured(self, grown, finished, measured):
        old = {row["fingerprint"] for row in Run.open(finished).rows()}
        assert measured
        assert {task.fingerprint for task in measured} & old == set()
        assert grown.missing.cells == 0

    def test_its_values_are_those_of_a_run_that_measured_all(self, grown, anew):
        for row, same in zip(grown.labelled_rows(), anew.labelled_rows(), strict=True):
            assert (row["label"], row["length"], row["metric"]) == (same["label"], same["length"], same["metric"])
            assert row["value"] == pytest.approx(same["value"], rel=1e-5)
            assert row["n"] == same["n"]

    def test_it_stands_verification_with_raw_files_of_its_own(self, grown, finished, tmp_path):
        alone = shutil.copytree(grown.directory, tmp_path / "alone")
        checked, wrong = verify_rows(alone)
        assert (checked, wrong) == (len(grown.rows()), [])
        assert verify_passes(alone, 40, seed=1)[1] == []
        inodes = {path.stat().st_ino for path in finished.rglob("nll/*")}
        assert inodes.isdisjoint(path.stat().st_ino for path in grown.directory.rglob("nll/*"))

    def test_it_says_who_measured_what(self, grown, finished):
        (said,) = grown.meta["reused"]
        there = Run.open(finished).meta
        own = {row["fingerprint"] for row in there["passes"]}
        workers = {row["worker"]: row["started_at"] for row in grown.meta["workers"]}
        taken = [row for row in grown.meta["passes"] if row["worker"] != 1]
        assert len(workers) == 2
        assert workers[2] == there["workers"][0]["started_at"]
        assert (said["passes"], said["answers"]) == (len(taken), there["answers"])
        assert {row["fingerprint"] for row in taken} <= own
        assert said["started"] == there["started"]
        assert said["sha256"] == (finished / "run.sha256").read_text(encoding="utf-8").strip()
        assert f"{len(taken)} passes and {there['answers']} answers in the run {finished.name}" in page(grown)

    def test_it_goes_on_without_the_other_run(self, grown, experiment, measured):
        with sqlite3.connect(grown.directory / "run.sqlite") as db:
            db.execute("DELETE FROM answers WHERE rowid % 2")
        db.close()
        measured.clear()
        again = run(experiment(methods=GROWN), grown.directory)
        assert measured
        assert again.missing.cells == 0
        assert verify_rows(again.directory)[1] == []

    def test_nothing_of_the_other_run_is_written(self, experiment, copied, tmp_path):
        before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
        run(experiment(methods=GROWN), tmp_path / "grown", reuse=copied)
        assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def page(found: Run) -> str:
    from ropewalk.report import provenance
    from ropewalk.report.study import of

    return str(provenance.table(of(found.data).run))


class TestOtherTexts:
    def test_passes_over_the_same_texts_alone_are_taken(self, experiment, finished, texts, measured, tmp_path):
        """In another order, and one of them changed in its last word."""
        own = tmp_path / "own"
        own.mkdir()
        names = sorted(path.name for path in texts.glob("*.txt"))
        for place, name in enumerate(reversed(names)):
            text = (texts / name).read_text(encoding="utf-8")
            (own / f"{place}.txt").write_text(text if place else text + " changed", encoding="utf-8")
        asked = experiment(documents={"files": [str(own / "*.txt")]}, metrics={"perplexity": {}})
        found = run(asked, tmp_path / "grown", reuse=finished)
        assert {task.document for task in measured} == {0}
        assert found.meta["reused"][0]["passes"] > 0
        assert verify_passes(found.directory, 8, seed=1)[1] == []

    def test_a_longer_grid_measures_no_pass_again(self, experiment, finished, measured, tmp_path):
        asked = experiment(metrics={"perplexity": {}}, lengths=[192, 256, 320])
        found = run(asked, tmp_path / "grown", reuse=finished)
        old = {(row["fingerprint"], row["start"], row["stop"]) for row in Run.open(finished).meta["passes"]}
        assert {(task.fingerprint, task.feed.start, task.stop) for task in measured} & old == set()
        assert max(task.stop for task in measured) == 320
        assert verify_rows(found.directory)[1] == []

    def test_a_shorter_grid_takes_no_pass_beyond_it(self, experiment, finished, tmp_path):
        found = run(experiment(metrics={"perplexity": {}}, lengths=[192]), tmp_path / "small", reuse=finished)
        assert max(row["stop"] for row in found.meta["passes"]) == 192
        assert verify_rows(found.directory)[1] == []


class TestRefused:
    def test_other_weights(self, experiment, finished, tiny_bos, tmp_path):
        with pytest.raises(StoreError, match=r"--reuse .*: weights_sha256 is \w{16} there and \w{16} here, so its "):
            run(experiment(model=str(tiny_bos)), tmp_path / "run", reuse=finished)
        assert not (tmp_path / "run").exists()

    def test_another_dtype(self, experiment, finished, tmp_path):
        with pytest.raises(StoreError, match="dtype is float32 there and bfloat16 here"):
            run(experiment(dtype="bfloat16"), tmp_path / "run", reuse=finished)

    @pytest.mark.parametrize(
        ("column", "value", "said"),
        [
            ("device", "cuda:1 NVIDIA H100", "device is cuda NVIDIA H100 there and cpu"),
            ("attention", "flash", "attention is flash there and "),
            ("versions", '{"torch":"1.0"}', "version of ropewalk is None there and "),
        ],
    )
    def test_another_way_to_measure(self, experiment, copied, tmp_path, column, value, said):
        altered(copied, f"UPDATE workers SET {column} = ?", value)
        with pytest.raises(StoreError, match=said):
            run(experiment(), tmp_path / "grown", reuse=copied)

    def test_another_canary(self, experiment, copied, tmp_path):
        altered(copied, "UPDATE meta SET value = replace(value, '\"nll\":[', '\"nll\":[1') WHERE key = 'canary'")
        with pytest.raises(StoreError, match=r"its canary is .* nats/token from the one here, where 0.0001 is allowed"):
            run(experiment(), tmp_path / "grown", reuse=copied)

    def test_the_slow_twin_takes_nothing_of_the_fast_one(self, experiment, finished, tmp_path):
        with pytest.raises(StoreError, match="exact is False there and True here"):
            run(experiment(), tmp_path / "run", reuse=finished, exact=True)

    def test_itself_and_nothing(self, experiment, copied, tmp_path):
        with pytest.raises(StoreError, match="is --out itself, which goes on without it"):
            run(experiment(), copied, reuse=copied)
        with pytest.raises(StoreError, match="holds no run"):
            run(experiment(), tmp_path / "run", reuse=tmp_path / "none")

    def test_a_torn_file_of_the_other_run(self, experiment, copied, tmp_path):
        next(copied.rglob("nll/*")).write_bytes(b"torn")
        with pytest.raises(StoreError, match="its sha256 is not"):
            run(experiment(methods=GROWN), tmp_path / "grown", reuse=copied)


def test_the_command_says_how_much_was_taken(experiment, finished, tmp_path):
    import yaml

    asked = tmp_path / "grown.yaml"
    asked.write_text(yaml.safe_dump(experiment(methods=GROWN)), encoding="utf-8")
    done = CliRunner().invoke(app, ["run", str(asked), "--out", str(tmp_path / "grown"), "--reuse", str(finished)])
    meta = Run.open(tmp_path / "grown").meta
    (said,) = meta["reused"]
    assert done.exit_code == 0
    assert (
        f"{said['passes']} of {len(meta['passes'])} passes and {said['answers']} of {meta['answers']} answers were "
        f"measured before, in {finished}"
    ) in done.stderr


def test_from_python(experiment, finished, measured, tmp_path):
    asked = experiment()
    found = rw.sweep(
        asked["model"],
        **{key: asked[key] for key in ("methods", "lengths", "documents", "metrics", "dtype", "seed")},
        out=tmp_path / "run",
        reuse=rw.Run.open(finished),
    )
    assert measured == []
    assert np.allclose(found.frame().value, Run.open(finished).frame().value, equal_nan=True)
