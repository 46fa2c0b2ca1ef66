"""One needle among others of its kind: four in a book, nothing but needles, or nothing but long codes."""

from __future__ import annotations

import random

from ropewalk.tasks import single
from ropewalk.tasks.draft import Draft, Filler, Needle, Task, around, found
from ropewalk.tasks.words import ASKED, code, key, number

KEYS = 4


def four(seed: int, sample: int, depth: float, _: int) -> Draft:
    """The number of one thing of four."""
    draw = random.Random(f"multikey {seed} {sample}")
    keys = [key(KEYS * sample + i, ASKED) for i in range(KEYS)]
    values = [number(draw) for _ in keys]
    places = around(depth, KEYS)
    return Draft(
        filler=Filler(kind="book"),
        needles=tuple(
            Needle(text=single.needle(*pair), depth=place) for *pair, place in zip(keys, values, places, strict=True)
        ),
        question=single.question(keys[0]),
        prefix=single.prefix(keys[0]),
        references=(values[0],),
        depth=depth,
    )


def needles(seed: int, sample: int, depth: float, _: int) -> Draft:
    """The number of one thing of very many: the haystack is made of needles."""
    asked, value = key(KEYS * sample, ASKED), number(random.Random(f"multikey needles {seed} {sample}"))
    return Draft(
        filler=Filler(kind="numbers", seed=str(seed)),
        needles=(Needle(text=single.needle(asked, value), depth=depth),),
        question=single.question(asked),
        prefix=single.prefix(asked),
        references=(value,),
        depth=depth,
    )


def codes(seed: int, sample: int, depth: float, _: int) -> Draft:
    """The code of one code of very many."""
    draw = random.Random(f"multikey codes {seed} {sample}")
    asked, value = code(draw), code(draw)
    return Draft(
        filler=Filler(kind="codes", seed=str(seed)),
        needles=(Needle(text=f" The code of {asked} is {value}.", depth=depth),),
        question=f"What is the code of {asked}?",
        prefix=f"The code of {asked} is",
        references=(value,),
        depth=depth,
    )


FOUR = Task(name="multikey", title="one number of four in a book", draft=four, judge=found)
NEEDLES = Task(name="multikey_needles", title="one number among nothing but numbers", draft=needles, judge=found)
CODES = Task(name="multikey_codes", title="one long code among nothing but codes", draft=codes, judge=found)
