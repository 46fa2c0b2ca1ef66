"""Passkey retrieval: find five digits in a long stretch of filler (Mohtashami & Jaggi, arXiv:2305.16300).

The prompt has five lines: an instruction, filler, the needle, filler, the question. Its pieces are tokenised
separately, so every trial of a length has exactly that many tokens, the answer included. A needle's depth is its place
in the prompt, and a place has one key: at doubled lengths half of the shorter prompts are beginnings of longer ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExperimentError

INSTRUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there."
)
FILLER = (
    "The grass is green.",
    " The sky is blue.",
    " The sun is yellow.",
    " Here we go.",
    " There and back again.",
)
QUESTION = "What is the pass key? The pass key is"
LONG = 20
"""A prompt is long if it is so many times as long as what is no filler: depth then counts from its start to its end."""

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """One prompt with its answer fed in.

    Attributes:
        index: 0..trials-1.
        key: the five digits.
        depth: where the needle begins, as a share of the prompt: what stands before and after the filler keeps it from
            0 and 1, at short lengths by a lot (at 256 tokens .12 to .81).
        ids: int32 `[length]`, the answer's tokens last.
        answer_tokens: how many of them are the answer.
    """

    index: int
    key: str
    depth: float
    ids: NDArray[np.int32]
    answer_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands before the instruction and what asks at the end; a chat template changes both."""

    before: str = ""
    question: str = QUESTION


def chat_frame(render: Callable[[str], str]) -> Frame:
    """The frame of a chat template: the user asks, and the assistant's turn is begun with "The pass key is".

    Args:
        render: the template's text for one user message, up to where the assistant begins to speak.

    Raises:
        ExperimentError: the template does not show the message once, as it is.
    """
    mark = "\u2402"
    before, *more = render(mark).split(mark)
    if len(more) != 1:
        raise ExperimentError(
            f"passkey.template=chat: this tokenizer's chat template shows the user's message {len(more)} times, and "
            "once is needed; use template: none."
        )
    after = more[0]
    return Frame(before=before, question=f"What is the pass key?{after}The pass key is")


def needle(key: str) -> str:
    return f"The pass key is {key}. Remember it. {key} is the pass key."


def keys(trials: int, length: int, seed: int) -> list[str]:
    """Five-digit keys, all different, the same for every configuration, and for a needle in the same place at every
    length: shared beginnings spare a quarter of the tokens, and nothing is concluded from several lengths together.
    """
    found: dict[str, None] = {}
    for depth in depths(trials):
        draw = random.Random(f"passkey {seed} {round(depth * length)}")
        while (key := str(draw.randint(10000, 99999))) in found:
            continue
        found[key] = None
    return list(found)


def require_places(trials: int, length: int) -> None:
    """Refuse more trials than there are places for a needle, as prompts would repeat and count twice.

    Raises:
        ExperimentError: with the largest possible number.
    """
    if trials > length + 1:
        raise ExperimentError(
            f"passkey: {trials} trials at {length} tokens would repeat prompts, which have {length + 1} places for a "
            f"needle; ask for at most {length + 1} trials, or for no length under {trials - 1}."
        )


def depths(trials: int) -> list[float]:
    """An even grid from 0 to 1; one trial stands in the middle."""
    return [0.5] if trials == 1 else [float(depth) for depth in np.linspace(0.0, 1.0, trials)]


def build_trials(
    encode: Encode,
    length: int,
    trials: int,
    seed: int,
    bos_id: int | None = None,
    frame: Frame | None = None,
    haystack: Sequence[int] | None = None,
) -> list[Trial]:
    """All trials of one length.

    Args:
        encode: text to token ids, without special tokens.
        length: tokens per prompt, the answer included.
        trials: how many; their depths are an even grid.
        seed: of the keys.
        bos_id: put first where the tokenizer wants one.
        frame: text of a chat template around the prompt.
        haystack: token ids of prose to use as filler, in place of the repeated sentences.

    Raises:
        ExperimentError: `length` is too short for the prompt without filler, or has fewer places than trials.
    """
    require_places(trials, length)
    frame = frame or Frame()
    sentences = [list(encode(sentence)) for sentence in (*FILLER, " " + FILLER[0])]
    head = ([] if bos_id is None else [bos_id]) + list(encode(frame.before + INSTRUCTION + "\n"))
    question = list(encode("\n" + frame.question))
    built = []
    for index, (key, depth) in enumerate(zip(keys(trials, length, seed), depths(trials), strict=True)):
        line, answer = list(encode("\n" + needle(key) + "\n")), list(encode(" " + key))
        room = length - len(head) - len(line) - len(question) - len(answer)
        if room < 0:
            raise ExperimentError(
                f"lengths: {length} tokens are too few for a passkey prompt of {length - room} under this tokenizer; "
                f"raise the length to at least {length - room} or drop the metric passkey."
            )
        target = depth * room
        if max(trials, LONG) * (length - room) <= length:
            target = min(depth * length, room)  # at twice the length the same place has half the depth
        before = _sentence_boundary(sentences, target) if haystack is None else round(target)
        filler = _filler(sentences, room) if haystack is None else list(haystack[:room])
        if len(filler) < room:
            raise ExperimentError(
                f"passkey haystack: {len(filler)} tokens of prose cannot fill {room}; use a longer document."
            )
        ids = [*head, *filler[:before], *line, *filler[: room - before], *question, *answer]
        trial_ids = np.array(ids, dtype=np.int32)
        begins = (len(head) + before) / length
        built.append(Trial(index=index, key=key, depth=begins, ids=trial_ids, answer_tokens=len(answer)))
    return built


def _filler(sentences: list[list[int]], room: int) -> list[int]:
    """Whole rounds of the sentences, cut at `room` tokens; a round after the first starts with a space."""
    first, *middle, later_first = sentences
    tail = [token for sentence in middle for token in sentence]
    filler = first + tail
    while len(filler) < room:
        filler += later_first + tail
    return filler[:room]


def _sentence_boundary(sentences: list[list[int]], target: float) -> int:
    """The number of filler tokens nearest to `target` from below that ends a sentence."""
    first, *middle, later_first = sentences
    steps, done = [first, *middle], 0
    while True:
        for step in steps:
            if done + len(step) > target:
                return done
            done += len(step)
        steps = [later_first, *middle]


def exact(predicted: NDArray[np.int32], answer: NDArray[np.int32], after_text: str) -> bool:
    """Whether greedy decoding gives the answer and then stops giving digits.

    With the answer fed in, greedy decoding yields it if and only if every position's argmax is the next token.

    Args:
        predicted: int32 `[A + 1]`, the argmax before each answer token, and after the last.
        answer: int32 `[A]`.
        after_text: what the token predicted after the answer adds to the text.
    """
    return bool((predicted[:-1] == answer).all()) and not after_text[:1].isdigit()
