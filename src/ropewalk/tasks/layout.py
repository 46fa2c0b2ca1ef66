"""Drafts to prompts of exactly so many tokens: every piece is tokenised apart, and filler is cut where it is full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExperimentError
from ropewalk.tasks.draft import Draft, Filler
from ropewalk.tasks.fillers import stream
from ropewalk.tasks.frame import Frame

SLACK = 8
"""Tokens that an answer may take beside a quarter more than the right one does."""

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Laid:
    """A draft as tokens: `len(ids) + new_tokens` is the length, and the answer's tokens fit into `new_tokens`.

    Attributes:
        ids: int32 `[T]`, all that comes before the answer.
        answer: token ids of the right answer.
        new_tokens: how many may be generated, thinking included.
        needles: where each needle begins, as a share of the length.
    """

    ids: NDArray[np.int32]
    answer: list[int]
    new_tokens: int
    needles: tuple[float, ...]


@dataclass(slots=True, eq=False)
class Layout:
    """A tokenizer with what it has tokenised, and what stands around every prompt.

    Attributes:
        encode: text to token ids, without special tokens.
        bos_id: put first where the tokenizer wants one.
        thinking_tokens: kept free for what a model says to itself.
    """

    encode: Encode
    bos_id: int | None
    frame: Frame = field(default_factory=Frame)
    thinking_tokens: int = 0
    _tokens: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    _streams: dict[Filler, tuple[Iterator[str], list[list[int]]]] = field(default_factory=dict)

    def lay(self, task: str, draft: Draft, length: int) -> Laid:
        """A draft as a prompt that leaves exactly its answer's budget free.

        Raises:
            ExperimentError: the length is too short for what is no filler, or the tokenizer merges pieces.
        """
        bos = [] if self.bos_id is None or self.frame.before else [self.bos_id]
        head = [*bos, *self.encode(self.frame.before + draft.head)]
        asked = f"\n{draft.question}{self.frame.after}{draft.prefix if self.frame.prefixed else ''}"
        tail, answer = self.after("a", asked), self.after(asked, draft.answer)
        budget = len(answer) + len(answer) // 4 + SLACK + self.thinking_tokens
        needles = sorted(((needle.depth, self.after(".", needle.text)) for needle in draft.needles), key=lambda n: n[0])
        room = length - budget - len(head) - len(tail) - sum(len(tokens) for _, tokens in needles)
        if room < 0:
            raise ExperimentError(
                f"lengths: {length} tokens are too few for the task {task}, which takes {length - room} under this "
                f"tokenizer; raise the length to at least {length - room}, or leave {task} out of metrics.tasks.tasks."
            )
        body, begins = _filled(needles, self._units(draft.filler, room), room)
        ids = np.array([*head, *body, *tail], dtype=np.int32)
        places = tuple((len(head) + begin) / length for begin in begins)
        return Laid(ids=ids, answer=answer, new_tokens=budget, needles=places)

    def after(self, before: str, text: str) -> list[int]:
        """The tokens that a text adds after another.

        Raises:
            ExperimentError: the tokenizer merges their ends.
        """
        if (known := self._tokens.get((before, text))) is not None:
            return known
        whole, first = list(self.encode(before + text)), list(self.encode(before))
        if whole[: len(first)] != first:
            raise ExperimentError(
                f"metrics.tasks: this tokenizer merges {text[:24]!r} with the {before[-8:]!r} before it, so a needle "
                "cannot be placed to the token; leave metrics.tasks out for this model."
            )
        return self._tokens.setdefault((before, text), whole[len(first) :])

    def _units(self, filler: Filler, room: int) -> list[list[int]]:
        """Units of a filler, as tokens, that fill `room`; tokenised once."""
        texts, units = self._streams.setdefault(filler, (stream(filler), []))
        missing = room - sum(map(len, units))
        while missing > 0:
            units.append(self.after(".", next(texts)))
            missing -= len(units[-1])
        return units


def _filled(
    needles: Sequence[tuple[float, list[int]]], units: Sequence[list[int]], room: int
) -> tuple[list[int], list[int]]:
    """Units up to `room` tokens, the last one cut, with each needle after the last unit that ends at or before its
    depth; and where needles begin."""
    body, begins, done, left = list[int](), list[int](), 0, list(needles)
    for unit in (*units, list[int]()):
        ends = min(done + len(unit), room)
        while left and (ends > left[0][0] * room or done >= room):
            begins.append(len(body))
            body += left.pop(0)[1]
        body += unit[: ends - done]
        done = ends
    return body, begins
