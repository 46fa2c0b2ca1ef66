"""One forced pass says of an answer what greedy decoding would: `exact` if and only if `generate` gives it."""

from __future__ import annotations

import numpy as np
import pytest
from rows_for_tests import ids, outcomes, random_model, rotation
from transformers import PreTrainedTokenizerFast

from ropewalk.metrics import passkey
from ropewalk.metrics.metric import OfPrompt
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, split
from ropewalk.scoring.generate import generate

ANSWER_TOKENS = 4


@pytest.fixture(scope="module")
def model():
    """No end of text, so that generation never stops early."""
    found = random_model("Llama", eos_token_id=None)
    found.generation_config.eos_token_id = None
    return found


def said(token: int) -> str:
    """A third of the vocabulary are digits."""
    return str(token % 10) if token % 3 == 0 else "x"


def exact(predicted: np.ndarray, answer: np.ndarray, after: str) -> bool:
    """Whether an answer that was fed in counts as found."""
    unit = OfPrompt(
        unit="0", facts={}, answer=answer.tolist(), predicted=np.asarray(predicted).tolist(), nll=None, text=after
    )
    return passkey.found(unit)


@pytest.mark.parametrize("method", [("none", {}), ("yarn", {"factor": 2})])
@pytest.mark.parametrize("changed", [None, 0, 3], ids=["own words", "first differs", "last differs"])
def test_exact_is_what_generate_gives(model, method, changed):
    turn = rotation(model, method[0], **method[1])
    parts = split(model)
    judged = []
    for seed in range(30):
        prompt = ids(24, seed)
        spoken = generate(model, prompt, turn, ANSWER_TOKENS + 1)
        assert spoken.shape == (ANSWER_TOKENS + 1,)
        answer = spoken[:-1].copy()
        if changed is not None:
            answer[changed] = 3 + (answer[changed] + 1) % 90
        row = AnswerRow(ids=np.concatenate([prompt, answer]), scheme=Scheme(rotation=turn), answer_tokens=ANSWER_TOKENS)
        (found,) = outcomes(model, parts, [row], 1)
        forced = exact(found.predicted, answer, said(int(found.predicted[-1])))
        generated = bool((spoken[:-1] == answer).all()) and not said(int(spoken[-1])).isdigit()
        assert forced == generated
        judged.append(forced)
    assert any(judged) == (changed is None)
    if changed is None:
        assert not all(judged)  # some continuations go on with a digit


def test_generation_is_greedy_and_under_the_rotation(model):
    prompt = ids(24)
    for turn in (rotation(model), rotation(model, "linear", factor=4)):
        spoken = generate(model, prompt, turn, 6)
        text = np.concatenate([prompt, spoken])
        (found,) = outcomes(
            model, split(model), [AnswerRow(ids=text, scheme=Scheme(rotation=turn), answer_tokens=6)], 1
        )
        assert found.predicted[:-1].tolist() == spoken.tolist()
    assert "forward" not in model.model.rotary_emb.__dict__


def test_the_text_after_the_answer_is_judged_as_text(words: PreTrainedTokenizerFast):
    answer = np.array(words(" 12345", add_special_tokens=False)["input_ids"], dtype=np.int32)
    for text, stops in (("6", False), (".", True), (" 7", True), (" pass", True)):
        (token, *_) = words(text, add_special_tokens=False)["input_ids"]
        after = words.decode([*answer.tolist(), token])[len(words.decode(answer.tolist())) :]
        assert exact(np.append(answer, token), answer, after) is stops, text
