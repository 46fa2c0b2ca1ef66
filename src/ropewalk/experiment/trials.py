"""Passkey trials of a run: prompts from the tokenizer and the seed, rows for the store out of what the model said."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ropewalk.corpus import Tokens
from ropewalk.corpus.tried import rendered
from ropewalk.errors import ExperimentError
from ropewalk.experiment.judge import succeeded
from ropewalk.experiment.schema import Passkey
from ropewalk.metrics import passkey
from ropewalk.metrics.passkey import Trial
from ropewalk.scoring import Answers, Failure, Outcome


def encoder(tokenizer: PreTrainedTokenizerBase) -> passkey.Encode:
    """Text to token ids, without special tokens."""
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def build(
    tokenizer: PreTrainedTokenizerBase, asked: Passkey, length: int, seed: int, bos_id: int | None, haystack: Tokens
) -> list[Trial]:
    """The trials of one length under the `exact` protocol.

    Raises:
        ExperimentError: the length is too short, or the tokenizer has no chat template though one was asked for.
    """
    frame = None
    if asked.template == "chat":
        if not tokenizer.chat_template:
            raise ExperimentError(
                "passkey.template=chat: this model's tokenizer has no chat template; use template: none."
            )
        frame = passkey.chat_frame(lambda text: rendered(tokenizer, text))
        bos_id = None
    prose = haystack.ids[1 if haystack.bos else 0 :].tolist() if asked.haystack == "essay" else None
    return passkey.build_trials(encoder(tokenizer), length, asked.trials, seed, bos_id, frame, prose)


def outcome_row(
    tokenizer: PreTrainedTokenizerBase, fingerprint: str, length: int, trial: Trial, outcome: Outcome
) -> dict[str, Any]:
    """One trial as the store keeps it."""
    common = _named(fingerprint, length, trial)
    if isinstance(outcome, Failure):
        return {**common, "status": outcome.status, "reason": outcome.reason}
    assert isinstance(outcome, Answers)
    answer = trial.ids[-trial.answer_tokens :]
    after = said(tokenizer, answer.tolist(), outcome.predicted.tolist())
    return {
        **common,
        "status": "ok",
        "reason": None,
        "success": int(passkey.exact(outcome.predicted, answer, after)),
        "answer": json.dumps(answer.tolist()),
        "predicted": json.dumps(outcome.predicted.tolist()),
        "text": after,
        "nll": json.dumps([float(value) for value in outcome.nll]),
    }


def said(tokenizer: PreTrainedTokenizerBase, answer: list[int] | None, predicted: list[int]) -> str:
    """The stored `text`: of generated tokens what they say; of predictions what the last adds to the text of the
    answer (some tokenizers drop a lone token's leading space)."""
    if answer is None:
        return str(tokenizer.decode(predicted, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    whole, before = (
        str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)) for ids in ([*answer, predicted[-1]], answer)
    )
    return whole[len(before) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedTrial:
    """A prompt of YaRN's own protocol, to be continued by up to 10 generated tokens; `depth` is where the needle
    begins, as a share of its characters."""

    index: int
    key: str
    depth: float
    prompt: str


def generated_row(
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: str,
    length: int,
    trial: GeneratedTrial,
    new: NDArray[np.int32] | Failure,
) -> dict[str, Any]:
    """One generated trial as the store keeps it; `text` is what the `new` tokens say."""
    row = _named(fingerprint, length, trial)
    if isinstance(new, Failure):
        return row | {"status": new.status, "reason": new.reason}
    row |= {
        "status": "ok",
        "reason": None,
        "answer": None,
        "predicted": json.dumps(new.tolist()),
        "text": said(tokenizer, None, new.tolist()),
        "nll": None,
    }
    return row | {"success": int(succeeded(row))}


def _named(fingerprint: str, length: int, trial: Trial | GeneratedTrial) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "length": length,
        "trial": trial.index,
        "key": trial.key,
        "depth": trial.depth,
    }


YARN_NEW_TOKENS = 10
YARN_STEP_CHARACTERS = 128


def yarn_keys(trials: int, length: int, seed: int) -> list[tuple[str, float]]:
    """Keys and needle positions (in the filler, 0 to 1) of YaRN's protocol."""
    draw = random.Random(f"passkey yarn {seed} {length}")
    return [(str(draw.randint(1, 50000)), draw.random()) for _ in range(trials)]


def yarn_trials(tokenizer: PreTrainedTokenizerBase, trials: int, length: int, seed: int) -> list[GeneratedTrial]:
    """Prompts as YaRN's passkey script builds them: grown by 128 characters of filler to at most `length` tokens;
    the needle's position is uniform in characters, the key in 1..50000 (github.com/jquesnelle/yarn, eval/passkey.py).
    """
    filler = "".join(passkey.FILLER)
    built = []
    for index, (key, place) in enumerate(yarn_keys(trials, length, seed)):

        def prompt(characters: int, key: str = key, place: float = place) -> str:
            before = round(place * characters)
            text = " ".join([filler] * (characters // len(filler) + 2))
            lines = [
                passkey.INSTRUCTION,
                text[:before],
                passkey.needle(key),
                text[: characters - before],
                passkey.QUESTION,
            ]
            return "\n".join(lines)

        text = _longest(tokenizer, prompt, length)
        depth = text.index(passkey.needle(key)) / len(text)
        built.append(GeneratedTrial(index=index, key=key, depth=depth, prompt=text))
    return built


def _longest(tokenizer: PreTrainedTokenizerBase, prompt: Any, length: int) -> str:
    """The prompt with the most 128-character steps that stays within `length` tokens, by bisection."""

    def fits(steps: int) -> bool:
        return len(tokenizer(prompt(steps * YARN_STEP_CHARACTERS), verbose=False)["input_ids"]) <= length

    if not fits(0):
        raise ExperimentError(
            f"lengths: {length} tokens are too few for YaRN's passkey prompt under this tokenizer; "
            "raise the length or drop the metric passkey."
        )
    low, high = 0, 1
    while fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return prompt(low * YARN_STEP_CHARACTERS)
