"""What a step of tuning sees: a stretch of a document, and a probe; drawn from seed and step alone, so that a
step is the same whenever it is done; pure.

Of long texts most steps are fed the first window and pieces of the rest, each token at the place where it stands, as in
PoSE (arXiv:2309.10400): a step of 65536 tokens at a window of 8192 then feeds 16384, and several fit where one did.

Shapes: N tokens of the length that is tuned for, K that are fed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ropewalk.metrics.probes import Encode, Wording

Ids = NDArray[np.int32]
"""Token ids `[T]`."""

VERSION = 3
"""Of what seed and step draw: a tuning that was begun with another does not go on."""

LENGTHS, FULL = 48, 0.5
"""Different lengths of probes between window and N, as each new shape costs a kernel its preparation; and the part of
all probes that have N, where needles are lost first."""

EPOCHS, PLACES = 1_000_000_007, 1_000_000_009
"""Keep the shuffling of documents, and the places of pieces, apart from what steps draw."""

WHOLE = 8
"""Every so many steps feed all of a text, where the others feed pieces: how many keys there are is seen there alone."""

PIECES, BLIND = 2, 4
"""Of the rest of a text, a window's worth together; and the part of each, at its beginning, that has too little before
it to be scored: one in so many."""

EDGE = 48
"""Tokens of a probe that are fed around its needle, and at both of its ends."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """A stretch of a document.

    Attributes:
        ids: int32 `[N]`.
        read: slices of what is fed: beyond the window, losses of the tokens after these count.
        places: of those that are fed, int32 `[K]`; the first window is among them, the last token is not. None feeds
            all.
    """

    ids: Ids
    read: tuple[slice, ...]
    places: Ids | None = None

    @property
    def targets(self) -> Ids:
        """The token after each that is fed, int32 `[K]`; `[N - 1]` if all are."""
        return self.ids[1:] if self.places is None else self.ids[self.places + 1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """Token ids int32 `[T]` of a probe, its answer's tokens last; where its needle stands; and the places of those that
    are fed, int32 `[K]`: None feeds all."""

    ids: Ids
    answer_tokens: int
    needle: slice
    places: Ids | None = None


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
        pieces: whether most steps are fed a part of the text.
    """

    documents: Sequence[Ids]
    bos_id: int | None
    encode: Encode
    wording: Wording | None
    banned: frozenset[str]
    window: int
    length: int
    pieces: bool = False

    @property
    def bos(self) -> list[int]:
        return [] if self.bos_id is None else [self.bos_id]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """One step's: a stretch of N tokens, and a probe."""

    text: Text
    prompt: Prompt | None


def timed(material: Material) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Steps to be timed, kind by kind, each kind with how many of its steps come to one of the other; the first step of
    all prepares kernels and does not count. Of whole texts beside pieces one is enough: it is as long as several."""
    return ((WHOLE - 1, (1, 2)), (1, (0,))) if material.pieces else ((1, (0, 1, 2)),)


def draw(material: Material, seed: int, step: int, *, typical: bool = False) -> Draw:
    """Step `step` of a seed. Each document comes once before any comes again. A `typical` one is to be timed: its probe
    has the length that takes as long as they do on average."""
    drawn = _whole(material, seed, step, typical)
    if not material.pieces or step % WHOLE == 0:
        return drawn
    rng, prompt = np.random.default_rng([seed, PLACES, step]), drawn.prompt
    text = _in_pieces(drawn.text.ids, material.window, rng)
    return Draw(text=text, prompt=None if prompt is None else _around(prompt, 2 * material.window, rng))


def whole(ids: Ids, window: int) -> Text:
    """All of a text `[N]` is fed."""
    return Text(ids=ids, read=(slice(window - 1, len(ids) - 1),))


def _in_pieces(ids: Ids, window: int, rng: np.random.Generator) -> Text:
    """The first window, and pieces of the rest that do not overlap."""
    size = window // PIECES
    gaps = np.sort(rng.integers(0, len(ids) - 1 - window - PIECES * size + 1, PIECES))
    starts = window + gaps + size * np.arange(PIECES)
    places = np.concatenate([np.arange(window), *(np.arange(start, start + size) for start in starts)])
    ends = [window + size * (i + 1) for i in range(PIECES)]
    return Text(
        ids=ids,
        read=tuple(slice(end - size + size // BLIND, end) for end in ends),
        places=places.astype(np.int32),
    )


def _around(prompt: Prompt, room: int, rng: np.random.Generator) -> Prompt:
    """Its ends and its needle, and pieces of the rest until `room` tokens are fed.

    Where the needle stands is known from when it was built, not looked for by the answer's tokens: after its line's
    other words a tokenizer may write the key in others."""
    count, needle = len(prompt.ids), prompt.needle
    if count <= room:
        return prompt
    fed = np.zeros(count, dtype=bool)
    fed[:EDGE] = fed[-2 * EDGE - prompt.answer_tokens :] = True
    fed[max(0, needle.start - EDGE) : needle.stop + EDGE] = True
    while fed.sum() < room:
        start = int(rng.integers(count))
        fed[start : start + EDGE] = True
    return replace(prompt, places=np.flatnonzero(fed).astype(np.int32))


def _whole(material: Material, seed: int, step: int, typical: bool) -> Draw:
    rng = np.random.default_rng([seed, step])
    epoch, place = divmod(step, len(material.documents))
    order = np.random.default_rng([seed, EPOCHS, epoch]).permutation(len(material.documents))
    room = material.length - len(material.bos)
    text = _stretch(material.documents[order[place]], room, rng)
    prompt = None if material.wording is None else _prompt(material, material.wording, rng, typical)
    return Draw(text=whole(np.array([*material.bos, *text], dtype=np.int32), material.window), prompt=prompt)


def _stretch(ids: Ids, room: int, rng: np.random.Generator) -> Ids:
    first = int(rng.integers(0, max(1, len(ids) - room + 1)))
    return ids[first : first + room]


def _typical(material: Material) -> int:
    """The length of which the square is the mean of those of all probes: attention, which goes by it, is what takes
    the time of long ones."""
    most, least = material.length, material.window
    return round((FULL * most**2 + (1 - FULL) * (most**2 + most * least + least**2) / 3) ** 0.5)


def _prompt(material: Material, wording: Wording, rng: np.random.Generator, typical: bool) -> Prompt:
    """As their metric builds them, half of them at N and half at a random length from the window on, at a random depth;
    half of them inside real text."""
    step = max(1, (material.length - material.window) // LENGTHS)
    length = int(rng.integers(0, (material.length - material.window) // step + 1)) * step + material.window
    length = material.length if rng.random() < FULL else length
    length = _typical(material) if typical else length
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
    first = [*head, *filler[:before]]
    needle = slice(len(first), len(first) + len(line))
    ids = np.array([*first, *line, *filler[before:], *question, *answer], dtype=np.int32)
    return Prompt(ids=ids, answer_tokens=len(answer), needle=needle)


def _key(banned: frozenset[str], rng: np.random.Generator) -> str:
    while (key := str(rng.integers(10_000, 100_000))) in banned:
        continue
    return key
