"""Words, and names of people, places and months that exist nowhere; pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache

ASKED = (  # noqa: SIM905
    "amber brave bright broad calm clever copper crimson curly dusty eager early faint fancy gentle golden "
    "grand hollow humble icy ivory jolly lofty lucky mellow misty narrow noble olive pale plain proud"
).split()
"""Adjectives of what is asked for."""

BESIDE = (  # noqa: SIM905
    "quick quiet rapid rare ripe rocky rough round royal rusty scarlet shady sharp shiny silent silver "
    "simple sleepy slender smooth sober solid spicy steady stormy sturdy sunny swift tender tidy velvet wooden"
).split()
"""Adjectives of what only stands beside it, so that no key comes twice."""

NOUNS = (  # noqa: SIM905
    "anchor apple arrow barrel basket beacon bell blanket bottle bridge broom bucket button cabin candle canyon "
    "carpet castle cellar chain chapel cherry chimney circle clock cloud coach collar comet corner cottage cradle "
    "crown curtain desert diamond drawer engine falcon feather fence fiddle flute forest fountain garden gate glove "
    "hammer harbor helmet island jacket jewel kettle ladder lantern ledger lemon letter library lizard mantle marble "
    "meadow mirror mountain needle orchard otter paddle palace parcel pepper pigeon pillow pocket puzzle rabbit "
    "ribbon river saddle sailor shovel spoon stable statue temple ticket tunnel turtle violin wagon window"
).split()

ONSETS: list[str] = [
    "B",
    "Br",
    "D",
    "Dr",
    "F",
    "G",
    "Gr",
    "H",
    "K",
    "L",
    "M",
    "N",
    "P",
    "R",
    "S",
    "T",
    "Th",
    "V",
    "W",
    "Z",
]
VOWELS = ["a", "e", "i", "o", "u", "ae", "ia", "or"]
MIDDLES = ["lb", "ldr", "mv", "nd", "rgh", "rv", "sk", "st", "vr", "zn"]
PEOPLE = ["an", "ek", "in", "os", "ul", "wyn"]
PLACES = ["moor", "gard", "holt", "stead", "mere", "wick"]
MONTHS = ["tide", "uary", "ember"]


def key(number: int, adjectives: Sequence[str]) -> str:
    """`amber lantern`: another for every number."""
    pairs = len(adjectives) * len(NOUNS)
    row, place = divmod(number % pairs, len(adjectives))
    words = [adjectives[place], NOUNS[(row + place * 7) % len(NOUNS)]]
    beyond = number // pairs
    return " ".join([*(adjectives[(beyond - 1) % len(adjectives)] for _ in range(beyond > 0)), *words])


def coined(seed: str, first: int, count: int, endings: Sequence[str]) -> list[str]:
    """Names `first..first+count-1` of all that syllables make, in a drawn order: none comes twice before all came."""
    parts = (ONSETS, VOWELS, MIDDLES, endings)
    order = _order(seed, math.prod(map(len, parts)))
    names = list[str]()
    for place in range(first, first + count):
        rest, syllables = order[place % len(order)], list[str]()
        for part in parts:
            rest, choice = divmod(rest, len(part))
            syllables.append(part[choice])
        names.append("".join(syllables))
    return names


@lru_cache(maxsize=64)
def _order(seed: str, total: int) -> list[int]:
    return random.Random(seed).sample(range(total), total)


def number(draw: random.Random) -> str:
    """Six digits."""
    return str(draw.randint(100_000, 999_999))


def code(draw: random.Random) -> str:
    """32 hexadecimal digits in five groups."""
    digits = f"{draw.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
