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


RULED = {"index": 0, "input": "hello there", "outputs": ["Anne", "Ann"]}


def ruled(folder, lengths=(256, 1024), **changes):
    """Files of one line for each length, the last one with changes."""
    for length in lengths:
        path = folder / "ruler" / str(length) / "qa_1" / "validation.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(RULED | (changes if length == lengths[-1] else {})))
    return {"ruler": {"files": str(folder / "ruler")}}


def test_prompts_of_files_are_shown_too(ropewalk, written, tmp_path, unloaded):
    (shown,) = json.loads(ropewalk("plan", written(metrics=ruled(tmp_path)), "--show", "--json").out)
    assert (shown["task"], shown["prompt"], shown["answer"]) == ("qa_1", "hello there", "Anne, Ann")
    assert (shown["new_tokens"], shown["depth"]) == (32, None)
    assert shown["tokens"] > 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lengths": [64]}, "lengths: 64 tokens are too few for the task single_noise, which takes"),
        (
            {"metrics": {"tasks": {"tasks": ["qestion"]}}},
            "metrics.tasks.tasks=['qestion']: no task is called 'qestion'; did you mean 'question'",
        ),
        ({"metrics": {"tasks": {"template": "chat"}}}, "metrics.tasks.template=chat: this model's tokenizer has no"),
        ({"length": 99}, "metrics.ruler.files: "),
        ({"input": "hello there " * 900}, "metrics.ruler.files: "),
    ],
    ids=["too short", "unknown", "no template", "another tokenizer", "another length"],
)
def test_bad_input_is_refused_before_a_model_is_loaded_and_leaves_nothing(
    refused, written, tmp_path, unloaded, changes, why
):
    """Files are looked at for all lengths, not the first alone."""
    if "lengths" not in changes and "metrics" not in changes:
        changes = {"metrics": ruled(tmp_path, **changes)}
    said = refused("run", written(**changes), "--out", tmp_path / "out")
    assert why in said
    if "ruler" in why:
        assert "1024" in said
        assert "was prepared with another tokenizer" in said or "more than the 1024 of its folder" in said
    assert not (tmp_path / "out").exists()


def test_two_dialects_of_a_protocol_are_never_in_one_experiment(refused, written, tmp_path, unloaded):
    """RULER's own scores beside ours would be read as the same."""
    said = refused("run", written(metrics=ruled(tmp_path) | {"tasks": {}}), "--out", tmp_path / "out")
    assert "metrics.tasks and metrics.ruler are two dialects of RULER" in said
    assert said.endswith("write an experiment of its own for each.")
    assert not (tmp_path / "out").exists()


def test_what_a_run_records_of_files_is_read_with_the_experiment(tmp_path):
    missing = FILE | {"metrics": {"ruler": {"files": str(tmp_path / "nowhere")}}}
    with pytest.raises(schema.ExperimentError, match=r"metrics\.ruler\.files"):
        schema.parse(missing, "here")
