"""A mistake in ropewalk's own code keeps its traceback; what other libraries raise, and damage, stay sentences."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter

import checkpoints
from ropewalk.corpus import load
from ropewalk.errors import ModelError, StoreError, is_own
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import Store
from ropewalk.experiment.verify import verify_rows
from ropewalk.export import choice
from ropewalk.models import ModelSpec, gguf, read_geometry, source
from ropewalk.report import write
from ropewalk.scoring import foreign_errors, split

ROOT = Path(write.__file__).parents[1]


def planted(statement: str, where: str) -> Any:
    """A function of ropewalk's, as if one of its files held this statement."""
    scope: dict[str, Any] = {}
    exec(compile(f"def broken(*_, **__):\n    {statement}", str(ROOT / where), "exec"), scope)
    return scope["broken"]


BUGS = [("None.lost", AttributeError), ("len(3)", TypeError), ("{}['lost']", KeyError), ("int('x')", ValueError)]
VERBS = {
    "report": (lambda run: write.report(run), "ropewalk.report.write.content"),
    "export": (lambda run: choice.recommended(run, 512, partial=True), "ropewalk.export.choice.read_to_choose"),
    "results": (lambda run: Run(directory=run).meta, "ropewalk.experiment.store.Store.meta"),
    "verify": (verify_rows, "ropewalk.experiment.store.Store.meta"),
}


@pytest.mark.parametrize(("statement", "kind"), BUGS, ids=[kind.__name__ for _, kind in BUGS])
@pytest.mark.parametrize("function", ["find", "geometry_of"])
def test_while_a_model_is_read(monkeypatch, statement, kind, function):
    module = sys.modules[read_geometry.__module__]
    monkeypatch.setattr(module, function, planted(statement, "models/load.py"))
    with pytest.raises(kind) as caught:
        read_geometry(ModelSpec(id="strand"))
    assert not isinstance(caught.value, ModelError)


def test_what_transformers_raises_stays_a_sentence(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": "wide"}', encoding="utf-8")
    with pytest.raises(ModelError):
        read_geometry(ModelSpec(id=str(tmp_path)))


def test_an_index_that_is_none_stays_a_sentence(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match="is no index of weights"):
        source.weight_files(source.Source(location=str(tmp_path)))


@pytest.mark.parametrize(("statement", "kind"), BUGS, ids=[kind.__name__ for _, kind in BUGS])
@pytest.mark.parametrize("verb", VERBS)
def test_while_a_run_is_read(monkeypatch, finished_run, verb, statement, kind):
    call, place = VERBS[verb]
    monkeypatch.setattr(place, planted(statement, "report/study.py"))
    with pytest.raises(kind):
        call(finished_run)


@pytest.mark.parametrize("verb", VERBS)
def test_an_altered_run_is_to_blame_itself(monkeypatch, run_copy, verb):
    call, place = VERBS[verb]
    db = sqlite3.connect(run_copy / "run.sqlite")
    with db:
        db.execute("UPDATE documents SET title = 'other'")
    db.close()
    monkeypatch.setattr(place, planted("None.lost", "report/study.py"))
    with pytest.raises(StoreError, match="what it holds does not fit together"):
        call(run_copy)


@pytest.mark.parametrize(("statement", "kind"), BUGS, ids=[kind.__name__ for _, kind in BUGS])
def test_while_documents_are_read(monkeypatch, statement, kind):
    monkeypatch.setattr(load, "builtin_documents", planted(statement, "corpus/builtin.py"))
    with pytest.raises(kind):
        load.load_documents({"corpus": "builtin"})


def test_whose_an_error_is():
    def raised(call: Any) -> BaseException:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            call()
        return caught.value

    foreign = planted("import yaml; yaml.safe_load(3)", "models/load.py")
    assert is_own(raised(planted("import json; json.loads(None)", "models/load.py")))
    assert not is_own(raised(foreign))
    assert not is_own(ValueError("raised by nobody"))


HEADER = {"slim": "models/gguf_header.py", "require_bounded": "models/gguf_limits.py", "_header": "models/gguf.py"}


@pytest.mark.parametrize(("statement", "kind"), BUGS, ids=[kind.__name__ for _, kind in BUGS])
@pytest.mark.parametrize("function", HEADER)
def test_while_the_header_of_a_gguf_file_is_read(monkeypatch, tmp_path, function, statement, kind):
    writer = GGUFWriter(str(tmp_path / "a.gguf"), "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert gguf.read_header(tmp_path / "a.gguf").architecture == "llama"
    monkeypatch.setattr(gguf, function, planted(statement, HEADER[function]))
    with pytest.raises(kind) as caught:
        gguf.read_header(tmp_path / "a.gguf")
    assert not isinstance(caught.value, gguf.NoHeader)


@pytest.mark.parametrize(("statement", "kind"), BUGS[1:], ids=[kind.__name__ for _, kind in BUGS[1:]])
@pytest.mark.parametrize("place", ["ropewalk.experiment.raw.geometry", "ropewalk.experiment.raw.stored"])
def test_while_outcomes_are_read(monkeypatch, run_copy, place, statement, kind):
    monkeypatch.setattr(place, planted(statement, "experiment/raw.py"))
    with contextlib.closing(Store.open_run(run_copy, read_only=True)) as store:
        with pytest.raises(kind):
            Raw.read(store)
        (run_copy / "run.sha256").write_text("another")  # then nobody knows whose mistake it is
        with pytest.raises(StoreError, match="is damaged"):
            Raw.read(store)


@pytest.mark.parametrize(("statement", "kind"), BUGS, ids=[kind.__name__ for _, kind in BUGS])
@pytest.mark.parametrize("where", ["scoring/head.py", "scoring/kernels.py"])
def test_around_a_forward_pass(where, statement, kind):
    with pytest.raises(kind), foreign_errors.naming(object()):
        planted(statement, where)()


def test_what_a_model_raises_names_the_model():
    def forward() -> None:
        raise KeyError("lost")

    with pytest.raises(ModelError, match="its own forward pass failed"), foreign_errors.naming(object()):
        forward()
    with pytest.raises(ModelError, match="its own forward pass failed"):
        split(checkpoints.llama(return_dict=False))
    with pytest.raises(ModelError, match="gives a tuple without logits"), foreign_errors.naming(object()):
        foreign_errors.part(object(), (1,), "logits")
