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
from ropewalk.metrics.filler import FILLER, boundary, depths, last, rounds
from ropewalk.metrics.metric import Material, Metric, OfPrompt, Options, Prompt, Prompts, Remark, Sample
from ropewalk.metrics.probes import Encode, Probes, Wording
from ropewalk.metrics.readings import Reading
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.stats.column import Column

INSTRUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there."
)
QUESTION = "What is the pass key? The pass key is"
LONG = 20
"""A prompt is long if it is so many times as long as what is no filler: depth then counts from its start to its end."""

PASSKEY = Column(
    name="passkey",
    title="passkey",
    words="share of passkeys found",
    items="passkeys",
    pooling="share",
    unit="trial",
    higher_is_better=True,
    at_length=True,
)

YARN_NEW_TOKENS = 10
YARN_STEP_CHARACTERS = 128


class Passkey(Options):
    """Whether a number that stands somewhere in a long text is found again."""

    trials: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Numbers per length, spread evenly over the depths."""
    protocol: Literal["exact", "yarn"] = "exact"
    """yarn generates for real; exact feeds the answer in, which takes one pass."""
    template: Literal["none", "chat"] = "none"
    """chat asks in the tokenizer's chat template."""
    haystack: Literal["filler", "essay"] = "filler"
    """What the number stands in: five sentences over and over, or the first document."""

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


def too_many(trials: int, length: int) -> str | None:
    """What is wrong with more trials than there are places for a needle: prompts would repeat and count twice."""
    if trials <= length + 1:
        return None
    return (
        f"passkey: {trials} trials at {length} tokens would repeat prompts, which have {length + 1} places for a "
        f"needle; ask for at most {length + 1} trials, or for no length under {trials - 1}"
    )


def build(options: Passkey, material: Material, length: int) -> list[Prompt]:
    """The prompts of one length, that many tokens each, under the `exact` protocol.

    Raises:
        ExperimentError: `length` is too short for the prompt without filler, or has fewer places than trials; no chat
            template though one was asked for; prose that does not fill the length.
    """
    if wrong := too_many(options.trials, length):
        raise ExperimentError(f"{wrong}.")
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
    for key, depth in drawn(options, length, material.seed):
        line, answer = list(encode("\n" + needle(key) + "\n")), list(encode(" " + key))
        room = length - len(head) - len(line) - len(question) - len(answer)
        if room < 0:
            raise ExperimentError(
                f"lengths: {length} tokens are too few for a passkey prompt of {length - room} under this tokenizer; "
                f"raise the length to at least {length - room} or drop the metric passkey."
            )
        target = depth * room
        if max(options.trials, LONG) * (length - room) <= length:
            target = min(depth * length, room)  # at twice the length the same place has half the depth
        before = boundary(sentences, target) if haystack is None else round(target)
        filler = rounds(sentences, room) if haystack is None else list(haystack[:room])
        if len(filler) < room:
            raise ExperimentError(
                f"passkey haystack: {len(filler)} tokens of prose cannot fill {room}; use a longer document."
            )
        ids = [*head, *filler[:before], *line, *filler[: room - before], *question, *answer]
        request = Forced(ids=np.array(ids, dtype=np.int32), answer_tokens=len(answer))
        begins = len(head) + before
        facts = {"key": key, "depth": begins / length, "key_at": begins + last(line, answer)}
        built.append(Prompt(request=request, facts=facts))
    return built


def build_yarn(options: Passkey, material: Material, length: int) -> list[Prompt]:
    """Prompts as YaRN's passkey script builds them: grown by 128 characters of filler to at most `length` tokens;
    the needle's position is uniform in characters, the key in 1..50000 (github.com/jquesnelle/yarn, eval/passkey.py).

    Raises:
        ExperimentError: `length` is too short for the prompt without filler.
    """
    filler = "".join(FILLER)
    built = []
    for key, place in drawn(options, length, material.seed):

        def text(characters: int, key: str = key, place: float = place) -> str:
            before = round(place * characters)
            all_filler = " ".join([filler] * (characters // len(filler) + 2))
            lines = [INSTRUCTION, all_filler[:before], needle(key), all_filler[: characters - before], QUESTION]
            return "\n".join(lines)

        prompt = _longest(text, material.encode_whole, length)
        ids = np.array(material.encode_whole(prompt), dtype=np.int32)
        depth = prompt.index(needle(key)) / len(prompt)
        request = Generated(ids=ids, new_tokens=YARN_NEW_TOKENS)
        built.append(Prompt(request=request, facts={"key": key, "depth": depth}))
    return built


def _longest(text: Callable[[int], str], encode: Encode, length: int) -> str:
    """The prompt with the most 128-character steps that stays within `length` tokens, by bisection."""

    def fits(steps: int) -> bool:
        return len(encode(text(steps * YARN_STEP_CHARACTERS))) <= length

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
    return text(low * YARN_STEP_CHARACTERS)


def facts(options: Passkey, length: int, seed: int) -> list[Mapping[str, Any]]:
    """The key of every prompt of a length; where its needle begins depends on the tokenizer."""
    return [{"key": key} for key, _ in drawn(options, length, seed)]


def drawn(options: Passkey, length: int, seed: int) -> list[tuple[str, float]]:
    """Key of every prompt of a length, and the depth that is asked for, from 0 to 1 of the filler."""
    if options.protocol == "yarn":
        draw = random.Random(f"passkey yarn {seed} {length}")
        return [(str(draw.randint(1, 50000)), draw.random()) for _ in range(options.trials)]
    return list(zip(keys(options.trials, length, seed), depths(options.trials), strict=True))


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


def held(options: Passkey, facts: Mapping[str, Any], length: int, kept: int) -> bool | None:
    """Whether the key stands in the last `kept` tokens; not known of protocol yarn, and of runs before it was kept."""
    return None if "key_at" not in facts else facts["key_at"] >= length - kept


def check(options: Passkey, shortest: int) -> str | None:
    """Every trial needs a place of its own."""
    return too_many(options.trials, shortest) if options.protocol == "exact" else None


def kinds(options: Passkey) -> dict[str, Passkey]:
    """Options by haystack: what is sought in filler is also sought in text."""
    both = options.haystack == "filler" and options.template == "none"
    return {options.haystack: options} | ({"essay": options.model_copy(update={"haystack": "essay"})} if both else {})


def without_loss(options: Passkey) -> str | None:
    """Generated text has no loss."""
    said = "protocol=yarn generates text, which has no loss; use protocol: exact"
    return None if options.protocol == "exact" else said


METRIC = Metric(
    name="passkey",
    options=Passkey,
    columns=(PASSKEY,),
    asks=asks,
    sample=sample,
    prompts=prompts,
    facts=facts,
    check=check,
    probes=Probes(
        column=PASSKEY,
        wording=Wording(instruction=INSTRUCTION, filler=FILLER, line=needle, question=QUESTION),
        keys=keys,
        count=lambda options: options.trials,
        some=lambda options, count: options.model_copy(update={"trials": count}),
        kinds=kinds,
        found=found,
        check=without_loss,
    ),
    held=held,
)
