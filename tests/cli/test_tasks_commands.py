"""What the command line shows of tasks, and what it finds in files of tasks, before any model is loaded."""

from __future__ import annotations

import json

import pytest

from ropewalk import models
from ropewalk.experiment import schema
from ropewalk.tasks import TASKS

FILE = {"model": "strand", "lengths": [256, 1024], "methods": ["none"], "metrics": {"tasks": {"samples": 3}}}


@pytest.fixture
def unloaded(monkeypatch):
    """No model can be loaded."""
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.setattr("ropewalk.experiment.prepare.load", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.fixture
def written(tmp_path):
    def write(**changes):
        path = tmp_path / "tasks.yaml"
        path.write_text(json.dumps(FILE | changes))
        return path

    return write


def test_plan_shows_a_prompt_of_each_task_with_its_answer(ropewalk, written, unloaded):
    shown = json.loads(ropewalk("plan", written(), "--show", "--json").out)
    assert [each["task"] for each in shown] == list(TASKS)
    assert all(each["tokens"] + each["new_tokens"] == 256 for each in shown)
    said = ropewalk("plan", written(), "--show")
    assert said.code == 0
    for each in shown:
        assert each["prompt"] in said.out
        assert f">>> {each['answer']}" in said.out
    assert "--- single_noise: " in said.out


def test_a_plan_counts_what_is_fed_apart_from_what_is_generated(ropewalk, written, unloaded):
    asked = {"samples": 3, "tasks": ["question"]}
    one, both = (
        json.loads(ropewalk("plan", written(metrics={"tasks": asked | more}), "--json", "--no-probe").out)
        for more in ({}, {"generate": "all"})
    )
    assert (one["decode_tokens"], one["prefill_tokens"]) == (0, one["tokens"]) == (0, 3 * (256 + 1024))
    assert both["decode_tokens"] == 3 * 32 * 2
    assert both["prefill_tokens"] + both["decode_tokens"] == 2 * one["tokens"]
    said = ropewalk("plan", written(metrics={"tasks": asked | {"generate": "all"}}), "--no-probe").out
    assert "at most 192 of the tokens are generated one after another" in said


def test_nothing_to_show_is_said(refused, written):
    assert refused("plan", written(metrics={"perplexity": {}}), "--show").startswith("--show: no metric")


def test_files_of_another_tokenizer_are_found(ropewalk, tmp_path, unloaded):
    folder = tmp_path / "512" / "qa_1"
    folder.mkdir(parents=True)
    line = {"index": 0, "input": "hello there", "outputs": ["a"]}
    (folder / "validation.jsonl").write_text(json.dumps(line))
    good = ropewalk("tasks", "check", tmp_path, "--model", "strand")
    assert (good.code, good.out) == (0, "1 of 1 files fit the tokenizer of strand and their lengths\n")
    (folder / "validation.jsonl").write_text(json.dumps(line | {"length": 99}))
    bad = ropewalk("tasks", "check", tmp_path, "--model", "strand")
    assert bad.code == 1
    assert "was prepared with another tokenizer" in bad.out
    assert "0 of 1 files fit" in bad.out


def test_what_a_run_records_of_files_is_read_with_the_experiment(tmp_path):
    missing = FILE | {"metrics": {"ruler": {"files": str(tmp_path / "nowhere")}}}
    with pytest.raises(schema.ExperimentError, match=r"metrics\.ruler\.files"):
        schema.parse(missing, "here")
