"""The metric of tasks through its contract: what it asks for, and what its units are worth."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from pydantic import ValidationError

from ropewalk.errors import ExperimentError
from ropewalk.metrics.metric import Material, OfPrompt
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.metrics.tasks import ANSWER_NLL, GENERATED, METRIC, Tasks, answered, show
from ropewalk.tasks import TASKS

LENGTH = 640


@pytest.fixture(scope="module")
def material(words) -> Material:
    return Material(
        encode=lambda text: words(text, add_special_tokens=False)["input_ids"],
        encode_whole=lambda text: words(text)["input_ids"],
        chat=None,
        bos_id=None,
        prose=[],
        seed=5,
    )


def chat(text: str) -> str:
    return f"<user>{text}<end><assistant>"


def test_both_readings_ask_the_same_samples(material, words):
    options = Tasks(tasks=["question", "multivalue"], samples=3, generate="all")
    prompts = METRIC.prompts(options, material, LENGTH)
    forced, generated = (
        METRIC.asks(ANSWER_NLL, options, LENGTH, LENGTH),
        METRIC.asks(GENERATED, options, LENGTH, LENGTH),
    )
    assert (forced.first, forced.count, generated.first, generated.count) == (0, 6, 6, 6)
    assert (forced.new_tokens, generated.new_tokens > 0) == (0, True)
    assert len(prompts) == 12
    assert [prompt.facts for prompt in prompts] == METRIC.facts(options, LENGTH, 5)
    for one, other in zip(prompts[:6], prompts[6:], strict=True):
        assert isinstance(one.request, Forced)
        assert isinstance(other.request, Generated)
        assert one.facts == other.facts
        assert one.request.ids[: -one.request.answer_tokens].tolist() == other.request.ids.tolist()
        assert len(other.request.ids) + other.request.new_tokens == LENGTH
        assert other.request.stop == ("\n",)
        for reference in one.facts["references"]:
            assert reference in words.decode(one.request.answer)


def test_generation_is_for_none_for_the_best_or_for_all(material):
    for generate, best_by in (("all", None), ("best", "answer_nll")):
        asked = METRIC.asks(GENERATED, Tasks(generate=generate), LENGTH, LENGTH)
        assert (asked.count, asked.first, asked.best_by) == (260, 260, best_by)
    plain = Tasks(tasks=["question"], samples=2)
    assert METRIC.asks(GENERATED, plain, LENGTH, LENGTH) is None
    assert len(METRIC.prompts(plain, material, LENGTH)) == len(METRIC.facts(plain, LENGTH, 5)) == 2


def unit(facts, **changes) -> OfPrompt:
    values = {"unit": "0", "facts": facts, "answer": None, "predicted": [], "nll": None, "text": ""}
    return OfPrompt(**{**values, **changes})


def test_units_pair_by_task_and_sample_and_groups_are_tasks(material):
    options = Tasks(samples=2, generate="all")
    for facts in METRIC.facts(options, LENGTH, 5):
        right = TASKS[facts["task"]].draft(5, facts["sample"], float(facts["sample"]), LENGTH).answer
        forced = METRIC.sample(ANSWER_NLL, options, (), unit(facts, answer=[1, 2], nll=[0.5, 1.5]))
        said = METRIC.sample(GENERATED, options, (), unit(facts, text=f"{right}.\n"))
        silent = METRIC.sample(GENERATED, options, (), unit(facts, text=" no idea"))
        assert (forced.numerator, forced.denominator) == (1.0, 1.0)
        assert (said.numerator, silent.numerator) == (1.0, 0.0)
        assert forced.unit == said.unit == f"{facts['task']} {facts['sample']}"
        assert forced.group == said.group == facts["task"]
        assert forced.depth == facts["depth"]


def test_thoughts_are_no_answer_and_count_inside_the_length(material):
    options = Tasks(tasks=["question"], samples=1, generate="all", thinking_tokens=200)
    forced, generated = METRIC.prompts(options, dataclasses.replace(material, chat=chat), LENGTH)
    assert len(generated.request.ids) + generated.request.new_tokens == LENGTH
    assert generated.request.new_tokens > 200
    assert generated.request.stop == ()
    assert len(forced.request.ids) < LENGTH - 200
    assert answered("it may be Tarnmoor, or not</think> Velgard") == " Velgard"
    assert answered(" Velgard") == " Velgard"


def test_a_thought_that_does_not_end_is_no_answer(material):
    """What a model considers is in its thoughts; whoever runs out of tokens there has answered nothing."""
    assert answered("<think>it may be Velgard, or") == ""
    assert answered("it may be Velgard, or", thinks=True) == ""
    options = Tasks(tasks=["question"], samples=1, generate="all", thinking_tokens=200)
    opened = dataclasses.replace(material, chat=lambda text: f"{chat(text)}<think>\n")
    _, prompt = METRIC.prompts(options, opened, LENGTH)
    right = f" {prompt.facts['references'][0]}"
    for text, value in ((f"maybe{right}", 0.0), (f"maybe not{right}</think>{right}", 1.0)):
        assert METRIC.sample(GENERATED, options, (), unit(prompt.facts, text=text)).numerator == value


def test_a_thought_that_a_template_begins_is_ended_before_the_answer_begins(material, words):
    opened = dataclasses.replace(material, chat=lambda text: f"{chat(text)}<think>\n")
    forced, generated = METRIC.prompts(Tasks(tasks=["question"], samples=1, generate="all"), opened, LENGTH)
    text = words.decode(forced.request.ids[: -forced.request.answer_tokens])
    assert "<assistant><think>\n</think>\n\n" in text
    assert words.decode(generated.request.ids) == text
    assert "thinks" not in generated.facts
    thinking = Tasks(tasks=["question"], samples=1, generate="all", thinking_tokens=100)
    assert words.decode(METRIC.prompts(thinking, opened, LENGTH)[1].request.ids).endswith("<assistant><think>\n")
    closed = dataclasses.replace(material, chat=lambda text: f"{chat(text)}<think>\n\n</think>\n\n")
    (prompt,) = METRIC.prompts(Tasks(tasks=["question"], samples=1), closed, LENGTH)
    assert words.decode(prompt.request.ids).count("</think>") == 1


def test_the_template_is_taken_where_there_is_one(material, words):
    talking = dataclasses.replace(material, chat=chat)
    for template, one, begins in (("auto", talking, "<user>"), ("none", talking, "Rem"), ("auto", material, "Rem")):
        (prompt,) = METRIC.prompts(Tasks(tasks=["question"], samples=1, template=template), one, LENGTH)
        text = words.decode(prompt.request.ids)
        assert text.startswith(begins)
        assert ("<end><assistant>" in text) is (begins == "<user>")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tasks": ["qestion"]}, "no task is called 'qestion'; did you mean 'question'"),
        ({"tasks": []}, "at least 1 item"),
        ({"tasks": ["question", "question"]}, "named twice"),
        ({"thinking_tokens": 100}, "set generate, and template: chat"),
        ({"samples": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options, why):
    with pytest.raises(ValidationError, match=why):
        Tasks(**options)


def test_what_the_tokenizer_cannot_do_is_refused(material):
    with pytest.raises(ExperimentError, match=r"tasks.template=chat: this model's tokenizer has no chat template"):
        METRIC.prompts(Tasks(template="chat"), material, LENGTH)
    with pytest.raises(ExperimentError, match=r"thinking_tokens=9: the tokenizer has no chat template"):
        METRIC.prompts(Tasks(generate="all", thinking_tokens=9), material, LENGTH)
    with pytest.raises(ExperimentError, match="64 tokens are too few for the task single_noise"):
        METRIC.prompts(Tasks(), material, 64)
    assert METRIC.check(Tasks(generate="all", thinking_tokens=400), LENGTH).startswith("metrics.tasks.thinking_tokens")
    assert METRIC.check(Tasks(), LENGTH) is None


def test_a_stop_string_makes_another_request_and_none_keeps_the_old_identity():
    ids = np.arange(5, dtype=np.int32)
    plain, stops = Generated(ids=ids, new_tokens=3), Generated(ids=ids, new_tokens=3, stop=("\n",))
    known = {"generated": hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(), "new_tokens": 3}
    text = json.dumps(known, sort_keys=True, separators=(",", ":"))
    assert plain.key == hashlib.sha256(text.encode()).hexdigest()[:32]
    assert plain.key != stops.key


def test_one_prompt_of_each_task_is_shown_before_any_model_is_loaded(material, words):
    shown = show(Tasks(), material, LENGTH, words.decode)
    assert [each.task for each in shown] == list(TASKS)
    for each in shown:
        assert each.tokens + each.new_tokens == LENGTH
        assert each.prompt.count("\n") >= 3
        assert each.answer.split()[0].strip(",") in each.prompt
        assert (each.depth is None) == (each.task in ("common_words", "frequent_words"))
