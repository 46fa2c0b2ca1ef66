"""What needles stand in: streams of short texts that begin with a space, each cut where a prompt is full."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain, count, cycle

from ropewalk.corpus.builtin import builtin_documents
from ropewalk.tasks.draft import Filler
from ropewalk.tasks.words import BESIDE, NOUNS, PEOPLE, code, coined, key, number

NOISE = (
    " The rain fell on the roof.",
    " The wind went round the house.",
    " The fire was warm.",
    " The day was long.",
    " So it went on and on.",
)
BLOCK = 40
"""Words of a list that come again before the next ones."""

KINDS = 60
"""Coined words of one stream."""


SHORT, LONG = 20, 120
"""Characters of a sentence: among longer ones needles could not stand near the depths that are asked for."""


@cache
def sentences() -> tuple[str, ...]:
    """The sentences of the built-in novels, handbooks, plays and speeches that are neither very short nor long, in
    their order, white space as one space.

    What is kept depends on nothing but the package, whose hashes are checked.
    """
    texts = (
        re.split(r"(?<=[.!?])(?<!Mr\.)(?<!Mrs\.)(?<!Dr\.)(?<!St\.)\s+", document.text)
        for document in builtin_documents()
    )
    spaced = (" ".join(part.split()) for part in chain.from_iterable(texts))
    return tuple(f" {part}" for part in spaced if SHORT <= len(part) <= LONG)


@cache
def vocabulary() -> tuple[str, ...]:
    """Plain words of the built-in documents, 4 to 9 letters, without those that are asked for."""
    found = {word for text in sentences() for word in re.findall(r"\b[a-z]{4,9}\b", text)}
    return tuple(sorted(found - set(NOUNS)))


def _noise(_: Filler) -> Iterator[str]:
    return cycle(NOISE)


def _book(_: Filler) -> Iterator[str]:
    return cycle(sentences())


def _shuffled(filler: Filler) -> Iterator[str]:
    order = list(sentences())
    random.Random(f"shuffled {filler.seed}").shuffle(order)
    return cycle(order)


def _numbers(filler: Filler) -> Iterator[str]:
    draw = random.Random(f"numbers {filler.seed}")
    return (f" The number of the {key(i, BESIDE)} is {number(draw)}." for i in count())


def _codes(filler: Filler) -> Iterator[str]:
    draw = random.Random(f"codes {filler.seed}")
    return (f" The code of {code(draw)} is {code(draw)}." for _ in count())


def _vocabulary(filler: Filler) -> Iterator[str]:
    """Words in blocks: a block comes `repeats` times, in another order each time."""
    draw, words = random.Random(f"vocabulary {filler.seed}"), list(vocabulary())
    draw.shuffle(words)
    while True:
        for start in range(0, len(words), BLOCK):
            block = words[start : start + BLOCK]
            for _ in range(filler.repeats):
                draw.shuffle(block)
                yield from (f" {word}" for word in block)


def _coined(filler: Filler) -> Iterator[str]:
    """Coined words by a zeta(2) law: at every place the word comes that is furthest behind its share, as long as each
    of the four commonest stays rarer than the one before it and all others no commoner than they."""
    words = coined_words(filler.seed)
    total = sum(rank**-2 for rank in range(1, KINDS + 1))
    shares, done = [rank**-2 / total for rank in range(1, KINDS + 1)], [0] * KINDS

    def may(rank: int) -> bool:
        return rank == 0 or (done[rank] + 1 < done[rank - 1] if rank < 4 else done[rank] < done[3])

    for place in count(1):
        allowed = (rank for rank in range(KINDS) if may(rank))
        behind = max(allowed, key=lambda rank: place * shares[rank] - done[rank])
        done[behind] += 1
        yield f" {words[behind]}"


def coined_words(seed: str) -> list[str]:
    """The words of a coined stream, the commonest first."""
    return [word.lower() for word in coined(f"coined {seed}", 0, KINDS, PEOPLE)]


STREAMS: dict[str, Callable[[Filler], Iterator[str]]] = {
    "noise": _noise,
    "book": _book,
    "shuffled": _shuffled,
    "numbers": _numbers,
    "codes": _codes,
    "vocabulary": _vocabulary,
    "coined": _coined,
}


def stream(filler: Filler) -> Iterator[str]:
    """The units of a filler, without end."""
    return STREAMS[filler.kind](filler)
