"""Several needles at once: four values of one key, or one value of each of four keys."""

from __future__ import annotations

import random

from ropewalk.tasks import single
from ropewalk.tasks.draft import Draft, Filler, Needle, Task, around, found, listed
from ropewalk.tasks.words import ASKED, key, number

COUNT = 4


def values(seed: int, sample: int, depth: float, _: int) -> Draft:
    """Four numbers of one thing, in the order of the text."""
    draw, asked = random.Random(f"multivalue {seed} {sample}"), key(COUNT * sample, ASKED)
    numbers = [number(draw) for _ in range(COUNT)]
    return Draft(
        filler=Filler(kind="book"),
        needles=tuple(
            Needle(text=f" One number of the {asked} is {value}.", depth=place)
            for value, place in zip(numbers, sorted(around(depth, COUNT)), strict=True)
        ),
        question=f"Which {COUNT} numbers does the {asked} have?",
        prefix=f"The {COUNT} numbers of the {asked} are",
        references=tuple(numbers),
        depth=depth,
    )


def queries(seed: int, sample: int, depth: float, _: int) -> Draft:
    """One number of each of four things, in the order of the question."""
    draw = random.Random(f"multiquery {seed} {sample}")
    keys = [key(COUNT * sample + i, ASKED) for i in range(COUNT)]
    numbers = [number(draw) for _ in keys]
    things = listed([f"the {each}" for each in keys])
    return Draft(
        filler=Filler(kind="book"),
        needles=tuple(
            Needle(text=single.needle(*pair), depth=place)
            for *pair, place in zip(keys, numbers, around(depth, COUNT), strict=True)
        ),
        question=f"What are the numbers of {things}?",
        prefix=f"The numbers of {things} are",
        references=tuple(numbers),
        depth=depth,
    )


MULTIVALUE = Task(name="multivalue", title="four numbers of one thing", draft=values, judge=found)
MULTIQUERY = Task(name="multiquery", title="the numbers of four things", draft=queries, judge=found)
