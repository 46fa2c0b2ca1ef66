"""`verify` notices a change of any stored value that something in the run or the model determines.

Every column of every table is altered in turn, every record of `meta`, and every raw file. What may be altered
unnoticed is listed with the reason, and the list is checked as well.
"""

from __future__ import annotations

import json
import sqlite3

import pytest

from ropewalk.errors import StoreError
from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment.store import SCHEMA_VERSION, SCHEMAS
from ropewalk.experiment.verify import verify_rows

ALL = 1000
"""More passes and trials than there are: nothing is left out by chance."""

UNDETERMINED = {
    ("passes", "finished_at"): "a time that nothing else records",
    ("answers", "finished_at"): "a time that nothing else records",
    ("passes", "worker"): "who measured; TODO",
    ("answers", "worker"): "who measured; TODO",
    ("workers", "worker"): "a number",
    ("workers", "device"): "of the machine then; another one may verify",
    ("workers", "attention"): "the kernel then",
    ("workers", "versions"): "of the machine then",
    ("workers", "started_at"): "a time",
}
UNDETERMINED_META = {
    "source": "the file as written; --model and --lengths may have replaced parts of it",
    "started": "a time",
    "wall_s": "a time",
    "git": "the commit then",
    "left_out": "which fast paths the device then had to leave out",
}


def tables() -> dict[str, list[str]]:
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMAS[SCHEMA_VERSION])
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in names}
    db.close()
    return found


COLUMNS = [(table, column) for table, columns in tables().items() if table != "meta" for column in columns]


def altered(value):
    """Another value of the same type, as near as is of interest."""
    if value is None:
        return "x"
    if isinstance(value, int):
        return value + 100
    if isinstance(value, float):
        return value * 1.000001 + 1e-9
    try:
        return json.dumps(_nudged(json.loads(value)))
    except ValueError:
        return value[:-1] + ("x" if value[-1] != "x" else "y")


def _nudged(value):
    """JSON with its first leaf altered."""
    if isinstance(value, dict):
        if not value:
            return {"x": 1}
        key = next(iter(value))
        return value | {key: _nudged(value[key])}
    if isinstance(value, list):
        return [_nudged(value[0]), *value[1:]] if value else [1]
    if isinstance(value, bool):
        return not value
    return altered(value) if not isinstance(value, float) else value * 1.01 + 0.01


def change(directory, table, column, old_row, new):
    db = sqlite3.connect(directory / "run.sqlite")
    with db:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, old_row))
    db.close()


def first(directory, table, column):
    """The row id and value of the first row of a table."""
    db = sqlite3.connect(directory / "run.sqlite")
    row = db.execute(f"SELECT rowid, {column} FROM {table} ORDER BY rowid LIMIT 1").fetchone()
    db.close()
    return row


def complaint(directory) -> str:
    """What verify says, all passes and trials run again; nothing if all is well."""
    try:
        _, wrong = verify_rows(directory)
        if not wrong:
            _, wrong = verify_passes(directory, ALL)
    except StoreError as error:
        return f"refused: {error}"
    return "; ".join(str(mismatch) for mismatch in wrong)


def test_an_honest_run_has_no_mismatch_and_everything_is_counted(finished):
    assert verify_rows(finished) == (32, [])
    assert verify_passes(finished, ALL) == (9 + 12 + 18, [])
    assert verify_passes(finished, 4)[0] == 4


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda name: name)
def test_every_column_of_every_table(copied, table, column):
    row, value = first(copied, table, column)
    change(copied, table, column, row, altered(value))
    said = complaint(copied)
    if (table, column) in UNDETERMINED:
        assert said == ""
    else:
        assert said


@pytest.mark.parametrize("column", ["value", "ci_low", "ci_high"])
def test_numbers_are_compared_to_the_twelfth_digit(copied, column):
    row, value = first(copied, "cells", column)
    change(copied, "cells", column, row, value * (1 + 1e-11))
    (mismatch,) = verify_rows(copied)[1]
    assert str(mismatch) == f"none @ 192 perplexity: {column}: stored {value * (1 + 1e-11)!r}, recomputed {value!r}"
    change(copied, "cells", column, row, value * (1 + 2e-16))
    assert verify_rows(copied)[1] == []


def meta_keys(directory) -> list[str]:
    db = sqlite3.connect(directory / "run.sqlite")
    keys = [key for (key,) in db.execute("SELECT key FROM meta")]
    db.close()
    return keys


def set_meta(directory, key, value):
    db = sqlite3.connect(directory / "run.sqlite")
    with db:
        db.execute("UPDATE meta SET value = ? WHERE key = ?", (json.dumps(value), key))
    db.close()


def get_meta(directory, key):
    db = sqlite3.connect(directory / "run.sqlite")
    ((text,),) = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchall()
    db.close()
    return json.loads(text)


RECORDS = [
    ("identity", ["experiment", "seed"], 4),
    ("identity", ["experiment", "lengths"], [192, 255]),
    ("identity", ["experiment", "methods", "linear", "factor"], 2.001),
    ("identity", ["experiment", "metrics", "passkey", "trials"], 2),
    ("identity", ["experiment", "metrics", "longppl", "alpha"], 0.051),
    ("identity", ["experiment", "metrics", "longppl", "min_key_tokens"], 5000),
    ("identity", ["documents"], []),
    ("geometry", ["rope_theta"], 10001.0),
    ("geometry", ["max_position_embeddings"], 129),
    ("geometry", ["window"], 129),
    ("geometry", ["window_source"], "elsewhere"),
    ("model", ["weights_sha256"], "0" * 64),
    ("model", ["id"], "other"),
    ("model", ["architecture"], "OtherForCausalLM"),
    ("model", ["parameters"], 1),
    ("bos", [], True),
    ("key_spans", [0, "spans", 0, 1], 10**6),
    ("key_spans", [1, "spans"], []),
    ("documents_sha256", [], "0" * 64),
    ("evaluator", ["files", "evaluator/1.safetensors"], "0" * 64),
    ("canary", ["nll", 3], 1.5),
    ("canary", ["nll"], None),
    ("canary", ["fingerprint"], "0" * 16),
    ("canary", ["tokens"], 40),
    ("canary", ["checks", 0, "difference"], 1.0),
]


@pytest.mark.parametrize(("key", "path", "new"), RECORDS, ids=lambda value: str(value)[:40])
def test_every_record_that_something_determines(copied, key, path, new):
    record = get_meta(copied, key)
    inner = record
    for part in path[:-1]:
        inner = inner[part]
    if path:
        assert inner[path[-1]] != new
        inner[path[-1]] = new
    else:
        assert record != new
        record = new
    set_meta(copied, key, record)
    assert complaint(copied)


def test_no_record_is_forgotten_here(finished):
    assert set(meta_keys(finished)) <= {key for key, _, _ in RECORDS} | UNDETERMINED_META.keys()


def raw_files(directory) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*.safetensors"))


def test_a_flipped_bit_in_any_raw_file(copied):
    names = raw_files(copied)
    assert len(names) == 1 + 3 + 9 + 12
    for name in names:
        path = copied / name
        data = path.read_bytes()
        flipped = bytearray(data)
        flipped[-3] ^= 1
        path.write_bytes(flipped)
        checked, (mismatch,) = verify_rows(copied)
        assert checked == 0
        assert mismatch.what == f"raw file {name}"
        path.unlink()
        (mismatch,) = verify_rows(copied)[1]
        assert "No such file" in mismatch.found
        path.write_bytes(data)
    assert verify_rows(copied)[1] == []


def test_a_missing_cell_and_one_too_many(copied):
    db = sqlite3.connect(copied / "run.sqlite")
    with db:
        db.execute("UPDATE cells SET label = 'yarn factor=3' WHERE label = 'yarn factor=2' AND metric = 'tail'")
    db.close()
    said = [str(mismatch) for mismatch in verify_rows(copied)[1]]
    assert said == [
        "yarn factor=2 @ 192 tail: stored None, recomputed 'a value'",
        "yarn factor=2 @ 256 tail: stored None, recomputed 'a value'",
        "yarn factor=3 @ 192 tail: stored 'a cell', recomputed 'not in the plan'",
        "yarn factor=3 @ 256 tail: stored 'a cell', recomputed 'not in the plan'",
    ]


def test_raw_losses_that_no_model_gave(copied):
    """Forged all the way: losses, their hash and every cell made of them. Only the model knows."""
    from ropewalk.experiment.raw import Raw, write_cells
    from ropewalk.experiment.store import Store

    store = Store.open_run(copied)
    for name in raw_files(copied):
        if name.startswith("nll/"):
            ((digest,),) = store.rows("SELECT sha256 FROM passes WHERE file = ?", [name])
            forged = store.write_arrays(name, {"nll": store.read_arrays(name, digest)["nll"] * 0.99})
            with store.transaction():
                store._db.execute("UPDATE passes SET sha256 = ? WHERE file = ?", (forged, name))
    raw = Raw.read(store)
    with store.transaction():
        write_cells(store, raw, raw.plan().cells)
    store.close()
    assert verify_rows(copied)[1] == []
    count, wrong = verify_passes(copied, 2)
    assert count == 2
    assert "mean nll" in str(wrong[0])


def test_an_answer_s_loss_that_no_model_gave(copied):
    row, nll = first(copied, "answers", "nll")
    change(copied, "answers", "nll", row, json.dumps([value + 0.01 for value in json.loads(nll)]))
    assert verify_rows(copied)[1] == []
    assert ": mean nll" in complaint(copied)


def test_a_passkey_success_that_was_none(copied):
    """Told as if the model had predicted every token: the values made of it differ, and so does the model."""
    row, answer = first(copied, "answers", "answer")
    change(copied, "answers", "predicted", row, json.dumps([*json.loads(answer), 0]))
    said = [str(mismatch) for mismatch in verify_rows(copied)[1]]
    assert any(": value: stored 0.0, recomputed 0.333" in each for each in said)


def test_an_unfinished_run_verifies_what_there_is(copied):
    db = sqlite3.connect(copied / "run.sqlite")
    with db:
        db.execute("DELETE FROM answers")
        db.execute("DELETE FROM cells WHERE metric = 'passkey'")
    db.close()
    assert complaint(copied) == ""


def test_other_texts_under_the_same_names(experiment, copied, texts, monkeypatch):
    """The documents on disk have changed since: said as such, not as a wrong number."""
    path = texts / "text-1.txt"
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace("rope", "hope"), encoding="utf-8")
        (mismatch,) = verify_passes(copied, 1)[1][:1]
    finally:
        path.write_text(text, encoding="utf-8")
    assert mismatch.what == "document"
