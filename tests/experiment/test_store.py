"""A run directory that is something else, newer, damaged or another experiment's is refused in one sentence."""

from __future__ import annotations

import json
import shutil
import sqlite3

import numpy as np
import pytest

from ropewalk.errors import StoreError
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import SCHEMA_VERSION, Store, canonical
from ropewalk.experiment.verify import verify_rows


def change(directory, statement, *values):
    db = sqlite3.connect(directory / "run.sqlite")
    with db:
        db.execute(statement, values)
    db.close()


def refused(call) -> str:
    with pytest.raises(StoreError) as refusal:
        call()
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


class TestAnotherExperiment:
    @pytest.mark.parametrize(
        ("changes", "difference"),
        [
            ({"seed": 4}, "seed is 3 there and 4 here"),
            ({"lengths": [128, 256]}, "lengths is [192, 256] there and [128, 256] here"),
            ({"methods": {"linear": {"factor": 2}}}, "methods.yarn is {'factor': [2]} there and None here"),
            (
                {"methods": {"yarn": {"factor": [2]}, "linear": {"factor": 4}}},
                "methods.linear.factor is 2 there and 4 here",
            ),
            ({"dtype": "bfloat16"}, "dtype is 'float32' there and 'bfloat16' here"),
            ({"window": 64}, "window is None there and 64 here"),
        ],
    )
    def test_the_first_difference_is_named_and_nothing_is_touched(self, swept, copied, changes, difference):
        before = (copied / "run.sqlite").read_bytes()
        said = refused(lambda: swept(copied, **changes))
        assert (
            said == f"{copied}: holds another experiment ({difference}); choose another --out, it is never overwritten."
        )
        assert (copied / "run.sqlite").read_bytes() == before

    def test_fewer_documents_are_counted_and_not_hashed(self, swept, experiment):
        documents = experiment()["documents"]
        asked = {"metrics": {"perplexity": {}}, "lengths": [128]}
        swept(documents=documents | {"count": 2}, **asked)
        said = refused(lambda: swept(documents=documents | {"count": 3}, **asked))
        assert "holds another experiment (documents.count is 2 there and 3 here); choose" in said

    def test_other_documents_of_the_same_name(self, swept, tmp_path):
        text = tmp_path / "texts"
        text.mkdir()
        (text / "a.txt").write_text("The long rope. " * 400, encoding="utf-8")
        asked = {"documents": {"files": [str(text / "*.txt")]}, "metrics": {"perplexity": {}}, "lengths": [128]}
        swept(**asked)
        (text / "a.txt").write_text("The short rope. " * 400, encoding="utf-8")
        assert "holds another experiment (its documents were other texts); choose" in refused(lambda: swept(**asked))

    def test_other_weights_of_the_same_name(self, swept, tmp_path, words):
        import checkpoints

        model = checkpoints.save(tmp_path / "model", checkpoints.llama(), words)
        asked = {"model": str(model), "metrics": {"perplexity": {}}, "lengths": [128]}
        swept(**asked)
        checkpoints.save(model, checkpoints.llama(seed=7), words)
        said = refused(lambda: swept(**asked))
        assert said.startswith(f"{tmp_path / 'run'}: was made with weights_sha256 ")
        assert said.endswith("; choose another --out.")

    def test_exact_is_another_experiment(self, swept, copied):
        assert "exact is False there and True here" in refused(lambda: swept(copied, exact=True))

    def test_a_number_written_otherwise_is_the_same(self, swept, copied):
        swept(copied, methods={"yarn": {"factor": [2.0]}, "linear": {"factor": 2}})


class TestForeign:
    def test_a_directory_with_other_files(self, swept, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "thesis.tex").write_text("x", encoding="utf-8")
        said = refused(swept)
        assert said == f"{tmp_path / 'run'}: holds 'thesis.tex' and no run; name an empty or a new directory."
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]

    def test_a_file(self, swept, tmp_path):
        (tmp_path / "run").write_text("x", encoding="utf-8")
        assert refused(swept) == (f"{tmp_path / 'run'}: is a file and no directory; name an empty or a new directory.")

    def test_another_database(self, swept, tmp_path):
        (tmp_path / "run").mkdir()
        db = sqlite3.connect(tmp_path / "run" / "run.sqlite")
        db.execute("CREATE TABLE mine (x)")
        db.commit()
        db.close()
        assert refused(swept) == (
            f"{tmp_path / 'run' / 'run.sqlite'}: is not a ropewalk run (schema 0); name another directory."
        )

    def test_no_database(self, swept, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "run.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 30)
        said = refused(swept)
        assert said.startswith(f"{tmp_path / 'run' / 'run.sqlite'}: is no readable database (")
        assert said.endswith("restore it or start a new directory.")

    def test_no_run(self, tmp_path):
        assert refused(lambda: Run.open(tmp_path)) == (
            f"{tmp_path}: holds no run (no run.sqlite); name a directory made by `ropewalk run`."
        )

    def test_what_a_kill_leaves_before_there_is_a_run_is_no_obstacle(self, swept, tmp_path):
        (tmp_path / "run").mkdir()
        for name in ("run.lock", "run.sqlite.new", "run.sqlite.new-journal"):
            (tmp_path / "run" / name).write_bytes(b"torn")
        run = swept(metrics={"perplexity": {}}, lengths=[64])
        assert not (tmp_path / "run" / "run.sqlite.new").exists()
        assert verify_rows(run.directory)[1] == []


class TestNewerSchema:
    def test_is_refused_to_readers_and_writers(self, swept, copied):
        change(copied, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        expected = (
            f"{copied / 'run.sqlite'}: has schema {SCHEMA_VERSION + 1}, this ropewalk reads up to {SCHEMA_VERSION}; "
            "upgrade ropewalk."
        )
        for call in (lambda: swept(copied), lambda: Run.open(copied), lambda: verify_rows(copied)):
            assert refused(call) == expected


class TestDamaged:
    def test_a_truncated_database(self, copied):
        data = (copied / "run.sqlite").read_bytes()
        (copied / "run.sqlite").write_bytes(data[: len(data) // 2])
        assert "restore it" in refused(lambda: Run.open(copied).frame())

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("identity", "{}"),
            ("identity", '{"experiment": {"model": 3}}'),
            ("geometry", "{}"),
            ("geometry", "nonsense"),
        ],
    )
    def test_a_record_that_makes_no_sense(self, copied, key, value):
        change(copied, "UPDATE meta SET value = ? WHERE key = ?", value, key)
        said = refused(lambda: Run.open(copied).samples())
        assert said.startswith(f"{copied / 'run.sqlite'}: meta ")
        assert said.endswith("is damaged; restore the file, or start a new run.")

    @pytest.mark.parametrize(("column", "value"), [("asked", "{"), ("asked", "[]"), ("resolved", '"text"')])
    def test_parameters_that_are_none(self, copied, column, value):
        change(copied, f"UPDATE cells SET {column} = ? WHERE metric = 'tail'", value)
        assert refused(lambda: Run.open(copied).labelled_rows()) == (
            f"{copied / 'run.sqlite'}: column {column} of cells is damaged; restore the file, or start a new run."
        )

    def test_schemes_that_are_no_json(self, copied):
        change(copied, "UPDATE schemes SET scheme = '['")
        assert "scheme " in refused(lambda: verify_rows(copied))

    def test_answers_that_are_no_json(self, copied):
        change(copied, "UPDATE answers SET predicted = '['")
        assert "predicted of an answer" in refused(lambda: Run.open(copied).samples())

    def test_a_raw_file_outside_the_run(self, copied, tmp_path):
        (tmp_path / "secret.safetensors").write_bytes(b"x")
        change(copied, "UPDATE passes SET file = '../secret.safetensors'")
        assert refused(lambda: Run.open(copied).samples()) == (
            f"{copied / 'run.sqlite'}: names the raw file '../secret.safetensors' outside the run; restore it."
        )

    def test_raw_losses_that_are_not_finite(self, copied):
        store = Store.open_run(copied)
        ((name,),) = store.rows("SELECT file FROM passes LIMIT 1")
        ((size,),) = store.rows("SELECT stop - start - 1 FROM passes WHERE file = ?", [name])
        digest = store.write_arrays(name, {"nll": np.full(size, np.nan, np.float32)})
        store.close()
        change(copied, "UPDATE passes SET sha256 = ? WHERE file = ?", digest, name)
        assert refused(lambda: Run.open(copied).samples()).startswith(
            f"{copied / name}: holds no finite losses for {size} tokens"
        )

    def test_a_run_that_was_never_begun(self, copied):
        change(copied, "DELETE FROM meta")
        assert refused(lambda: Run.open(copied).samples()) == (
            f"{copied}: nothing is measured yet; run the experiment again."
        )


class TestTransactions:
    @pytest.fixture
    def store(self, tmp_path):
        store = Store.create(tmp_path / "new")
        yield store
        store.close()

    def test_all_or_nothing(self, store):
        def torn():
            with store.transaction():
                store.set_meta("a", 1)
                raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            torn()
        assert store.meta("a") is None
        with store.transaction():
            store.set_meta("a", {"b": [1.5, None]})
        assert store.meta("a") == {"b": [1.5, None]}

    def test_a_commit_that_a_kill_cut_short_is_undone_by_its_writer_and_by_no_reader(self, swept, copied, tmp_path):
        rows = Run.open(copied).rows()
        store = Store.open_run(copied)
        store._db.execute("PRAGMA cache_size = 4")  # pages, so that the transaction reaches the file early

        def cut_short():
            with store.transaction():
                store._db.execute("DELETE FROM cells")
                for index in range(200):
                    store.set_meta(f"filler {index}", "x" * 5000)
                shutil.copytree(copied, tmp_path / "killed")  # what a kill leaves
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cut_short()
        store.close()
        killed = tmp_path / "killed"
        assert (killed / "run.sqlite-journal").stat().st_size > 0
        assert (killed / "run.sqlite").stat().st_size > 500_000
        left = {path: path.read_bytes() for path in killed.glob("run.sqlite*")}
        assert refused(lambda: Run.open(killed)) == (
            f"{killed / 'run.sqlite'}: its last commit was cut short, and only its writer may undo that; run the same "
            "experiment with this --out again, it goes on from there."
        )
        assert {path: path.read_bytes() for path in killed.glob("run.sqlite*")} == left
        assert swept(killed).rows() == rows

    def test_readers_cannot_write(self, copied):
        store = Store.open_run(copied, read_only=True)
        with pytest.raises(StoreError, match="attempt to write a readonly database"), store.transaction():
            store.set_meta("a", 1)
        store.close()

    def test_a_raw_file_is_whole_or_not_there(self, store, monkeypatch):
        import os

        arrays = {"nll": np.arange(4, dtype=np.float32)}
        digest = store.write_arrays("nll/a.safetensors", arrays)
        assert store.read_arrays("nll/a.safetensors", digest)["nll"].tolist() == [0, 1, 2, 3]
        monkeypatch.setattr(os, "replace", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            store.write_arrays("nll/a.safetensors", {"nll": np.zeros(9, np.float32)})
        assert store.read_arrays("nll/a.safetensors", digest)["nll"].tolist() == [0, 1, 2, 3]
        assert [path.name for path in (store.directory / "nll").iterdir()] == ["a.safetensors"]

    def test_identities_are_canonical(self):
        assert canonical({"b": 1, "a": [2.5, "é"]}) == '{"a":[2.5,"é"],"b":1}'
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical({"a": float("nan")})
        assert json.loads(canonical({"a": 0.1 + 0.2})) == {"a": 0.1 + 0.2}
