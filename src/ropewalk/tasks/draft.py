"""What a task is: for every sample a draft without tokens, and a judge of what was said; pure.

A draft is the same at every length, so lengths pair: only how much filler its needles stand in grows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

HEAD = "Remember the facts hidden in this text. A question about them comes at the end.\n"
"""One for all tasks that hide sentences, so that prompts of several tasks begin alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filler:
    """A stream of units that never ends; the same at every length, so shorter prompts hold the beginning of it.

    Attributes:
        kind: a name of `fillers.STREAMS`.
        seed: of what is drawn.
        repeats: how often a unit comes again soon, where that matters.
    """

    kind: Literal["noise", "book", "shuffled", "numbers", "codes", "vocabulary", "coined"]
    seed: str = ""
    repeats: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Needle:
    """What is hidden, beginning with a space; `depth` says where, as a share of the filler, from 0 to 1."""

    text: str
    depth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One sample of a task before it has tokens.

    Attributes:
        filler: what the needles stand in.
        needles: in any order.
        question: comes after the text.
        prefix: how the answer begins: in a chat the assistant's words.
        references: what a right answer names; in this order they are the forced answer.
        depth: of the first needle that is asked for; None for tasks about all of the text.
        head: comes before the text; ends with a line break.
    """

    filler: Filler
    needles: tuple[Needle, ...]
    question: str
    prefix: str
    references: tuple[str, ...]
    depth: float | None
    head: str = HEAD

    @property
    def answer(self) -> str:
        """The text of the right answer, after the prefix."""
        return f" {listed(self.references)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as everything else sees it.

    Attributes:
        name: in `tasks: [...]`.
        title: what it asks for, in a sentence.
        draft: (seed, number of the sample, its depth from 0 to 1, length) to the sample.
        judge: (references, what was said) to the share of a right answer, 0 to 1.
    """

    name: str
    title: str
    draft: Callable[[int, int, float, int], Draft]
    judge: Callable[[Sequence[str], str], float]


def found(references: Sequence[str], said: str) -> float:
    """The share of references that stand in a text as whole words, whatever their case."""
    text = said.casefold()
    hits = (re.search(rf"(?<!\w){re.escape(each.casefold())}(?!\w)", text) for each in references)
    return sum(hit is not None for hit in hits) / len(references)


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([part for part in (", ".join(words[:-1]), words[-1]) if part])


def depths(samples: int) -> list[float]:
    """An even grid from 0 to 1; one sample stands in the middle."""
    return [0.5] if samples == 1 else [i / (samples - 1) for i in range(samples)]


def around(depth: float, count: int) -> list[float]:
    """That depth and others at even distances, going round at the end: over a grid of depths each is asked for in every
    order equally often."""
    return [depth] + [(depth + i / count) % 1.0 for i in range(1, count)]
