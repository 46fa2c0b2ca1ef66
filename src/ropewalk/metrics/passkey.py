"""Passkey retrieval: find five digits in a long stretch of filler (Mohtashami & Jaggi, arXiv:2305.16300).

The prompt has five lines: an instruction, filler, the needle, filler, the question. Its pieces are tokenised
separately, so every trial of a length has exactly that many tokens, the answer included. A needle's depth is its place
in the prompt, and a place has one key: at doubled lengths half of the shorter prompts are beginnings of longer ones.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ropewalk.errors import ExperimentError
from ropewalk.metrics.metric import Material, Metric, OfPrompt, Options, Prompt, Prompts, Remark, Sample
from ropewalk.metrics.readings import Reading
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.stats.column import Column

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


PASSKEY = Column(
    name="passkey",
    title="share of passkeys found",
    pooling="share",
    unit="trial",
    higher_is_better=True,
    at_length=True,
)

YARN_NEW_TOKENS = 10
YARN_STEP_CHARACTERS = 128


class Passkey(Options):
    """`protocol: yarn` generates for real; `exact` feeds the answer in (one pass)."""

    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    protocol: Literal["exact", "yarn"] = "exact"
    template: Literal["none", "chat"] = "none"
    haystack: Literal["filler", "essay"] = "filler"

    @model_validator(mode="after")
    def _possible(self) -> Passkey:
        if self.protocol == "yarn" and (self.template != "none" or self.haystack != "filler"):
            raise ValueError("protocol yarn has its own prompt; leave out `template` and `haystack`")
        return self


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
    """Five-digit keys, the same for every configuration, and at every length for a needle in the same place."""
    places = (round(depth * length) for depth in depths(trials))
    return [str(random.Random(f"passkey {seed} {place}").randint(10000, 99999)) for place in places]


def depths(trials: int) -> list[float]:
    """An even grid from 0 to 1; one trial stands in the middle."""
    return [0.5] if trials == 1 else [float(depth) for depth in np.linspace(0.0, 1.0, trials)]


def build(options: Passkey, material: Material, length: int) -> list[Prompt]:
    """The prompts of one length, that many tokens each, under the `exact` protocol.

    Raises:
        ExperimentError: `length` is too short for the prompt without filler; no chat template though one was asked
            for; prose that does not fill the length.
    """
    frame, bos_id = Frame(), material.bos_id
    if options.template == "chat":
        if material.chat is None:
            raise ExperimentError(
                "passkey.template=chat: this model's tokenizer has no chat template; use template: none."
            )
        frame, bos_id = chat_frame(material.chat), None
    encode = material.encode
    haystack = material.prose if options.haystack == "essay" else None
    sentences = [list(encode(sentence)) for sentence in (*FILLER, " " + FILLER[0])]
    head = ([] if bos_id is None else [bos_id]) + list(encode(frame.before + INSTRUCTION + "\n"))
    question = list(encode("\n" + frame.question))
    built = []
    for known in facts(options, length, material.seed):
        key = known["key"]
        line, answer = list(encode("\n" + needle(key) + "\n")), list(encode(" " + key))
        room = length - len(head) - len(line) - len(question) - len(answer)
        if room < 0:
            raise ExperimentError(
                f"lengths: {length} tokens are too few for a passkey prompt of {length - room} under this tokenizer; "
                f"raise the length to at least {length - room} or drop the metric passkey."
            )
        target = known["depth"] * room
        if max(options.trials, LONG) * (length - room) <= length:
            target = min(known["depth"] * length, room)  # at twice the length the same place has half the depth
        before = _sentence_boundary(sentences, target) if haystack is None else round(target)
        filler = _filler(sentences, room) if haystack is None else list(haystack[:room])
        if len(filler) < room:
            raise ExperimentError(
                f"passkey haystack: {len(filler)} tokens of prose cannot fill {room}; use a longer document."
            )
        ids = [*head, *filler[:before], *line, *filler[: room - before], *question, *answer]
        request = Forced(ids=np.array(ids, dtype=np.int32), answer_tokens=len(answer))
        built.append(Prompt(request=request, facts=known))
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


def build_yarn(options: Passkey, material: Material, length: int) -> list[Prompt]:
    """Prompts as YaRN's passkey script builds them: grown by 128 characters of filler to at most `length` tokens;
    the needle's position is uniform in characters, the key in 1..50000 (github.com/jquesnelle/yarn, eval/passkey.py).

    Raises:
        ExperimentError: `length` is too short for the prompt without filler.
    """
    filler = "".join(FILLER)
    built = []
    for known in facts(options, length, material.seed):
        key, place = known["key"], known["depth"]

        def ids(characters: int, key: str = key, place: float = place) -> Sequence[int]:
            before = round(place * characters)
            text = " ".join([filler] * (characters // len(filler) + 2))
            lines = [INSTRUCTION, text[:before], needle(key), text[: characters - before], QUESTION]
            return material.encode_whole("\n".join(lines))

        request = Generated(ids=np.array(_longest(ids, length), dtype=np.int32), new_tokens=YARN_NEW_TOKENS)
        built.append(Prompt(request=request, facts=known))
    return built


def _longest(ids: Callable[[int], Sequence[int]], length: int) -> Sequence[int]:
    """The prompt with the most 128-character steps that stays within `length` tokens, by bisection."""

    def fits(steps: int) -> bool:
        return len(ids(steps * YARN_STEP_CHARACTERS)) <= length

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
    return ids(low * YARN_STEP_CHARACTERS)


def facts(options: Passkey, length: int, seed: int) -> list[Mapping[str, Any]]:
    """Key and depth of every prompt of a length; the depth is in the filler, from 0 to 1."""
    if options.protocol == "yarn":
        draw = random.Random(f"passkey yarn {seed} {length}")
        drawn = [(str(draw.randint(1, 50000)), draw.random()) for _ in range(options.trials)]
    else:
        drawn = list(zip(keys(options.trials, length, seed), depths(options.trials), strict=True))
    return [{"key": key, "depth": depth} for key, depth in drawn]


def asks(column: Column, options: Passkey, length: int, longest: int) -> Prompts:
    """As many prompts as there are trials."""
    return Prompts(count=options.trials, new_tokens=YARN_NEW_TOKENS if options.protocol == "yarn" else 0)


def prompts(options: Passkey, material: Material, length: int) -> list[Prompt]:
    """The prompts of one length under the protocol that was asked for. Raises ExperimentError as `build` does."""
    return (build_yarn if options.protocol == "yarn" else build)(options, material, length)


def sample(column: Column, options: Passkey, readings: Sequence[Reading], unit: OfPrompt) -> Sample | Remark:
    """1 if the key was found, else 0."""
    return Sample(unit=unit.unit, numerator=float(found(unit)), denominator=1.0, depth=float(unit.facts["depth"]))


def found(unit: OfPrompt) -> bool:
    """Whether greedy decoding gives the key: as the first integer (yarn), or next, and then no more digits (exact).

    With the answer fed in, greedy decoding yields it if and only if every position's argmax is the next token.
    """
    if unit.answer is None:
        said = re.search(r"\d+", unit.text)
        return said is not None and int(said.group()) == int(unit.facts["key"])
    return list(unit.predicted[:-1]) == list(unit.answer) and not unit.text[:1].isdigit()


METRIC = Metric(
    name="passkey",
    options=Passkey,
    columns=(PASSKEY,),
    asks=asks,
    sample=sample,
    prompts=prompts,
    facts=facts,
)
