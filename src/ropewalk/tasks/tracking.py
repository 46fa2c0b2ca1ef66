"""Variable tracking: names that are set to one another, hop after hop, over noise; which have the first one's value?"""

from __future__ import annotations

import random
from string import ascii_uppercase

from ropewalk.tasks.draft import HEAD, Draft, Filler, Needle, Task, found
from ropewalk.tasks.words import number

HOPS = 4
EXAMPLE = "For example: Let AB = 70707. Let CD = AB. The names that equal 70707 are AB and CD.\n"


def draft(seed: int, sample: int, depth: float, _: int) -> Draft:
    """A chain of four hops, its links at even distances, the first at a depth within the first fifth."""
    draw = random.Random(f"tracking {seed} {sample}")
    value, names = number(draw), dict[str, None]()
    while len(names) <= HOPS:
        if (name := "".join(draw.choices(ascii_uppercase, k=3))) not in names:
            names[name] = None
    chain = list(names)
    links = zip(chain, [value, *chain[:-1]], strict=True)
    return Draft(
        filler=Filler(kind="noise"),
        needles=tuple(
            Needle(text=f" Let {name} = {other}.", depth=(place + depth) / (HOPS + 1))
            for place, (name, other) in enumerate(links)
        ),
        question=f"Which {HOPS + 1} names equal {value}?",
        prefix=f"The names that equal {value} are",
        references=tuple(chain),
        depth=depth / (HOPS + 1),
        head=HEAD + EXAMPLE,
    )


TRACKING = Task(name="tracking", title="the names in a chain of four hops", draft=draft, judge=found)
