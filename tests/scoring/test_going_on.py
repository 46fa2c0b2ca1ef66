"""Prompts read twice after one prefill: answers are those of the walk alone, tokens those of generation alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rows_for_tests import ids, outcomes, random_model, rotation

from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, fast, going_on, score_shared, shared, split
from ropewalk.scoring.decoding import PromptRow, generate_shared
from ropewalk.scoring.going_on import GoingOn

SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
MODELS = {
    "llama": ("Llama", {}),
    "partial rotary": ("GPTNeoX", {"rotary_pct": 0.5}),
    "some layers sliding": ("Gemma3", SLIDING),
    "keys cannot be held": ("Qwen3Next", {"layer_types": ["linear_attention", "full_attention"]}),
}
NEW, ANSWER = (12, 5, 9, 1), (3, 5, 1, 4)


@pytest.fixture(autouse=True)
def short_prompts_share(monkeypatch):
    monkeypatch.setattr(shared, "CPU_GRAIN", 4)


def both(model, methods=("none", "yarn", "linear")):
    """The same four prompts with answers and to be gone on with, under three schemes."""
    stream, turns = ids(70), [rotation(model, name, **({} if name == "none" else {"factor": 2})) for name in methods]
    fed, said = [], []
    for seed, (fork, new, answer) in enumerate(zip((40, 52, 30, 60), NEW, ANSWER, strict=True), start=1):
        whole = np.concatenate([stream[:fork], ids(70, seed)[fork : 64 + answer]])
        fed.append((whole, answer))
        said.append((whole[:-answer].copy(), new))
    schemes = [Scheme(rotation=turn) for turn in turns]
    return (
        [AnswerRow(ids=whole, scheme=s, answer_tokens=answer) for s in schemes for whole, answer in fed],
        [PromptRow(ids=prompt, scheme=s, new_tokens=new) for s in schemes for prompt, new in said],
    )


def twice(model, parts, fed, said, wanted=None):
    after = GoingOn(model=model, parts=parts, rows=said, decode=lambda new: "")
    answers, new = {}, {}
    for batch in score_shared(model, parts, fed, 1000, wanted, after):
        answers.update(batch)
    new.update(after.said())
    return answers, new


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("most", [64, 6, 1])
def test_both_readings_are_what_each_is_alone(name, most, monkeypatch):
    monkeypatch.setattr(going_on, "MOST_ROWS", most)
    stem, changes = MODELS[name]
    model = random_model(stem, **changes)
    fed, said = both(model)
    with fast(model, split(model), compiled=False) as parts:
        answers, new = twice(model, parts, fed, said)
        alone = outcomes(model, parts, fed, 1000, run=score_shared)
        told = outcomes(model, parts, said, 1000, run=lambda *asked: generate_shared(*asked, lambda new: ""))
    for index, each in enumerate(alone):
        assert answers[index].nll.tobytes() == each.nll.tobytes()
        assert answers[index].predicted.tolist() == each.predicted.tolist()
    assert len(new) == (len(said) if parts.held else 0)
    for index, tokens in new.items():
        assert tokens.tolist() == told[index].tolist()
    assert len({tuple(each.tolist()) for each in told}) > 3


def test_a_prompt_is_fed_once_for_both(monkeypatch):
    model = random_model("Llama")
    fed, said = both(model)
    shapes = []
    with fast(model, split(model), compiled=False) as parts:

        def body(ids_BT, *more):
            shapes.append(tuple(ids_BT.shape))
            return parts.body(ids_BT, *more)

        outcomes(model, dataclasses.replace(parts, body=body), fed, 1000, run=score_shared)
        alone = [shape for shape in shapes if shape[1] > 1]
        shapes.clear()
        _, new = twice(model, dataclasses.replace(parts, body=body), fed, said)
    assert [shape for shape in shapes if shape[1] > 1] == alone
    assert len(new) == len(said)


def test_rows_that_are_not_asked_or_not_fed_are_left():
    model = random_model("Llama")
    fed, said = both(model)
    said = [row for index, row in enumerate(said) if index % 4 != 1]  # one prompt of four under no scheme
    said[0] = dataclasses.replace(said[0], ids=ids(64, 9))
    with fast(model, split(model), compiled=False) as parts:
        _, new = twice(model, parts, fed, said)
    assert set(new) == {1, 2, 4, 5, 7, 8}  # the first prompt is asked under two schemes of three
