"""What becomes of lm-eval's items once they are read, without lm-eval: how many prompts, whose facts, which verdict."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from test_metric_laws import of_words

from ropewalk.metrics.lm_eval import ACC, BITS, METRIC, NORM, PPL, SAID, LmEval, read
from ropewalk.metrics.metric import OfPrompt, Prompts
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.tasks import lm_eval_items
from ropewalk.tasks.lm_eval_items import Item

CHOICE = Item(task="choice", document=4, pairs=(("the rope", " is long"), ("the rope", " is")), gold=(1,))
TASKS = {
    "says": (
        Item(task="says", document=3, pairs=(("a rope", ""),), new_tokens=7, stop=("\n", "."), references=("x",)),
    ),
    "choice": (dataclasses.replace(CHOICE, characters=(8, 3)), dataclasses.replace(CHOICE, document=5)),
    "prose": (Item(task="prose", document=0, pairs=(("a", " rope walk"),), accurate=False, words=2),),
    "bytes": (Item(task="bytes", document=0, pairs=(("a", " rope"),), accurate=False, words=1, utf8_bytes=5),),
}
LENGTH = 64


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> LmEval:
    monkeypatch.setattr(lm_eval_items, "items", lambda tasks, *_: [TASKS[name] for name in tasks])
    return read(LmEval(tasks=list(TASKS)), [LENGTH])


def test_tasks_of_a_column_stand_beside_each_other(options: LmEval) -> None:
    assert [(each.task, each.place, each.prompts) for each in options.held] == [
        ("choice", 0, 4),
        ("prose", 1, 1),
        ("bytes", 2, 1),
        ("says", 3, 1),
    ]
    assert {column.name: METRIC.asks(column, options, LENGTH, LENGTH) for column in METRIC.columns} == {
        "lm_eval": Prompts(count=4),
        "lm_eval_norm": Prompts(count=4),
        "lm_eval_said": Prompts(count=1, new_tokens=7, first=6),
        "lm_eval_perplexity": Prompts(count=2, first=4),
        "lm_eval_bits": Prompts(count=1, first=5),
    }
    some = options.model_copy(update={"held": options.held[1:2]})
    assert [METRIC.asks(column, some, LENGTH, LENGTH) for column in (ACC, NORM, SAID, BITS)] == [None] * 4
    assert METRIC.asks(PPL, some, LENGTH, LENGTH) == Prompts(count=1)


def test_prompts_are_the_items_of_their_task(options: LmEval) -> None:
    made = METRIC.prompts(options, of_words(), LENGTH)
    assert [(each.facts["task"], each.facts["document"], each.facts["part"]) for each in made] == [
        *(("choice", 4, 0), ("choice", 4, 1), ("choice", 5, 0), ("choice", 5, 1)),
        *(("prose", 0, 0), ("bytes", 0, 0), ("says", 3, 0)),
    ]
    assert [type(each.request) for each in made] == [Forced] * 6 + [Generated]
    digests = {each.task: each.sha256 for each in options.held}
    assert [each.facts["items"] for each in made] == [digests[each.facts["task"]] for each in made]
    assert list(METRIC.facts(options, LENGTH, 0)) == [
        {name: each.facts[name] for name in ("protocol", "task", "items")} for each in made
    ]


def test_the_first_item_of_each_task_is_shown_with_a_right_answer(options: LmEval) -> None:
    assert METRIC.show is not None
    material = of_words()
    shown = METRIC.show(options, material, LENGTH, lambda ids: f"{len(ids)} tokens")
    assert [(each.task, each.answer, each.depth) for each in shown] == [
        ("choice", "is", None),
        ("prose", "rope walk", None),
        ("bytes", "rope", None),
        ("says", "x", None),
    ]
    assert [each.new_tokens for each in shown] == [1, 2, 1, 7]
    assert [each.tokens for each in shown] == [len(material.encode(text)) for text in ("the rope", "a", "a", "a rope")]
    assert [each.prompt for each in shown] == [f"{each.tokens} tokens" for each in shown]


def said(text: str, **facts: Any) -> float:
    known = {"task": "says", "document": 3, "stop": ["\n", "."], "references": ["long rope"]} | facts
    unit = OfPrompt(unit="0", facts=known, answer=None, predicted=[], nll=None, text=text)
    return METRIC.sample(SAID, LmEval(tasks=["says"]), (), unit).numerator


def test_what_was_said_ends_where_it_first_stops() -> None:
    assert said("long rope") == said("long rope.\nmore") == said("long rope\nmore.") == 1
    assert said("long rope more") == said(".long rope") == said("Long rope") == 0
    assert said("long rope\n") == said(" long rope ", filters=["remove_whitespace"]) == 1
    assert said("LONG rope", filters=["lowercase"]) == said("LONG rope", ignores=["ignore_case"]) == 1
    assert said("long, rope", ignores=["ignore_punctuation"]) == said("long rope1", ignores=["ignore_numbers"]) == 1


def choices(options: LmEval, *losses: list[float], parts: int = 2) -> list[OfPrompt]:
    """An item whose first choice has 8 characters, its second, the right one, 3."""
    facts = {"task": "choice", "document": 4, "parts": parts, "gold": [1], "characters": [8, 3]}
    return [
        OfPrompt(unit=str(i), facts=facts, answer=[1], predicted=[1, 0], nll=nll, text="")
        for i, nll in enumerate(losses)
    ]


def test_a_choice_is_the_likeliest_and_by_the_character_another(options: LmEval) -> None:
    def right(column: Any, *losses: list[float]) -> list[float]:
        return [each.numerator for each in METRIC.gather(column, options, choices(options, *losses))]

    assert right(ACC, [2.0, 2.0], [3.0]) == [1]
    assert right(ACC, [1.0, 1.0], [3.0]) == [0]
    assert right(NORM, [3.0, 3.0], [3.0]) == [0]  # 6/8 a character is less than 3/3
    assert right(NORM, [5.0, 5.0], [3.0]) == [1]
    assert right(ACC, [2.0]) == []  # its other prompt failed
    assert right(PPL, [2.0], [3.0]) == []  # its task reports none
