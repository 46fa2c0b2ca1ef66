"""One needle: the number of one thing, in noise, in a book, or among a book's sentences in no order."""

from __future__ import annotations

import random
from functools import partial
from typing import Literal

from ropewalk.tasks.draft import Draft, Filler, Needle, Task, found
from ropewalk.tasks.words import ASKED, key, number


def draft(haystack: Literal["noise", "book", "shuffled"], seed: int, sample: int, depth: float, _: int) -> Draft:
    """The number of one thing, hidden at a depth."""
    asked, value = key(4 * sample, ASKED), number(random.Random(f"single {seed} {sample}"))
    return Draft(
        filler=Filler(kind=haystack, seed=str(seed) if haystack == "shuffled" else ""),
        needles=(Needle(text=needle(asked, value), depth=depth),),
        question=question(asked),
        prefix=prefix(asked),
        references=(value,),
        depth=depth,
    )


def needle(asked: str, value: str) -> str:
    return f" The number of the {asked} is {value}."


def question(asked: str) -> str:
    return f"What is the number of the {asked}?"


def prefix(asked: str) -> str:
    return f"The number of the {asked} is"


NOISE = Task(name="single_noise", title="one number in noise", draft=partial(draft, "noise"), judge=found)
BOOK = Task(name="single_book", title="one number in a book", draft=partial(draft, "book"), judge=found)
SHUFFLED = Task(
    name="single_shuffled", title="one number among shuffled sentences", draft=partial(draft, "shuffled"), judge=found
)
