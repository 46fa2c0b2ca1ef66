"""What comes most often: ten words of a long list, or three words of a text in no language."""

from __future__ import annotations

import random

from ropewalk.tasks.draft import Draft, Filler, Needle, Task, found
from ropewalk.tasks.fillers import coined_words
from ropewalk.tasks.words import NOUNS

COMMON = 10
MOST, LEAST, STEP = 30, 2, 128
RARER = 10
"""How many times rarer the other words are, where there is room for that."""

TOP = 3
COMMON_HEAD = (
    "Remember which words come most often in this list.\n"
    "For example: oak fir elm oak ash fir. The words that come most often are oak and fir.\n"
)
CODED_HEAD = "Remember which words come most often in this coded text.\n"


def common(seed: int, sample: int, depth: float, length: int) -> Draft:
    """Ten words that come up to 30 times each, in rounds at even distances, among words that come 3 times.

    In short lists they come less often, once in 128 tokens of the length, but twice at least.
    """
    draw = random.Random(f"common {seed} {sample}")
    words = draw.sample(NOUNS, COMMON)
    repeats = min(MOST, max(LEAST, length // STEP))
    needles, order = list[Needle](), list(words)
    for turn in range(repeats):
        needles += (
            Needle(text=f" {word}", depth=(turn + (place + 0.5) / COMMON) / repeats) for place, word in enumerate(order)
        )
        draw.shuffle(order)
    return Draft(
        filler=Filler(kind="vocabulary", seed=str(seed), repeats=max(1, repeats // RARER)),
        needles=tuple(needles),
        question=f"Which {COMMON} words come most often in the list?",
        prefix=f"The {COMMON} words that come most often are",
        references=tuple(words),
        depth=None,
        head=COMMON_HEAD,
    )


def frequent(seed: int, sample: int, depth: float, _: int) -> Draft:
    """The three commonest of coined words by a zeta(2) law, the commonest first."""
    filler = Filler(kind="coined", seed=f"{seed} {sample}")
    words = coined_words(filler.seed)[:TOP]
    return Draft(
        filler=filler,
        needles=(),
        question=f"Which {TOP} words come most often in the coded text?",
        prefix=f"The {TOP} words that come most often are",
        references=tuple(words),
        depth=None,
        head=CODED_HEAD,
    )


COMMON_WORDS = Task(name="common_words", title="ten common words of a list", draft=common, judge=found)
FREQUENT_WORDS = Task(name="frequent_words", title="the three commonest coined words", draft=frequent, judge=found)
