"""What a step of tuning sees: a stretch of a document, and a probe; drawn from seed and step alone, so that a
step is the same whenever it is done; pure.

Shapes: N tokens of the length that is tuned for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.metrics.probes import Encode, Wording

Ids = NDArray[np.int32]
"""Token ids `[T]`."""

LENGTHS = 48
"""Different lengths of probes between window and N: each new shape costs a kernel its preparation."""

EPOCHS = 1_000_000_007
"""Keeps the shuffling of documents apart from what steps draw."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """Token ids int32 `[T]` of a probe, its answer's tokens last."""

    ids: Ids
    answer_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """What tuning may see.

    Attributes:
        documents: token ids of the tuning documents, int32 `[>= N]`, without BOS.
        bos_id: what stands before a text; None for nothing.
        encode: text to token ids.
        wording: of probes; None leaves them out.
        banned: keys that judge, and are not drawn.
        window: trained, tokens.
        length: N.
    """

    documents: Sequence[Ids]
    bos_id: int | None
    encode: Encode
    wording: Wording | None
    banned: frozenset[str]
    window: int
    length: int

    @property
    def bos(self) -> list[int]:
        return [] if self.bos_id is None else [self.bos_id]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """One step's: a stretch of N tokens, and a probe."""

    text: Ids
    prompt: Prompt | None


def draw(material: Material, seed: int, step: int) -> Draw:
    """Step `step` of a seed. Each document comes once before any comes again."""
    rng = np.random.default_rng([seed, step])
    epoch, place = divmod(step, len(material.documents))
    order = np.random.default_rng([seed, EPOCHS, epoch]).permutation(len(material.documents))
    room = material.length - len(material.bos)
    text = _stretch(material.documents[order[place]], room, rng)
    prompt = None if material.wording is None else _prompt(material, material.wording, rng)
    return Draw(text=np.array([*material.bos, *text], dtype=np.int32), prompt=prompt)


def _stretch(ids: Ids, room: int, rng: np.random.Generator) -> Ids:
    first = int(rng.integers(0, max(1, len(ids) - room + 1)))
    return ids[first : first + room]


def _prompt(material: Material, wording: Wording, rng: np.random.Generator) -> Prompt:
    """As their metric builds them, at a random length from the window to N and a random depth; half of them inside
    real text."""
    step = max(1, (material.length - material.window) // LENGTHS)
    length = int(rng.integers(0, (material.length - material.window) // step + 1)) * step + material.window
    key, encode = _key(material.banned, rng), material.encode
    head = [*material.bos, *encode(wording.instruction + "\n")]
    line, question, answer = (
        list(encode(text)) for text in (f"\n{wording.line(key)}\n", f"\n{wording.question}", f" {key}")
    )
    room = max(0, length - len(head) - len(line) - len(question) - len(answer))
    depth = float(rng.random())
    if rng.random() < 0.5:
        document = material.documents[int(rng.integers(len(material.documents)))]
        filler, before = _stretch(document, room, rng).tolist(), round(depth * room)
    else:
        round_of = list(encode("".join(wording.filler)))
        later = list(encode(" " + "".join(wording.filler)))
        filler = (round_of + later * (room // len(later) + 1))[:room]
        whole = round(depth * max(0, room - len(round_of)) / len(later))
        before = min(room, len(round_of) + whole * len(later)) if whole else 0
    ids = [*head, *filler[:before], *line, *filler[before:], *question, *answer]
    return Prompt(ids=np.array(ids, dtype=np.int32), answer_tokens=len(answer))


def _key(banned: frozenset[str], rng: np.random.Generator) -> str:
    while (key := str(rng.integers(10_000, 100_000))) in banned:
        continue
    return key
