"""Prompts that are read twice: what a right answer costs, and what the model says of itself, after one prefill.

Where the walk of `shared` has fed a prompt and its answer, the prompt's keys and values are held, and the prediction
before the answer's first token is the first token said: decoding goes on from a copy, and the walk is none the wiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ropewalk.scheme import Scheme
from ropewalk.scoring.decoding import MOST_ROWS, Decode, New, PromptRow, rows_held, stepped
from ropewalk.scoring.head import Split
from ropewalk.scoring.loop import AnswerRow
from ropewalk.scoring.modes import Held


@dataclass(slots=True, kw_only=True, eq=False)
class GoingOn:
    """New tokens of those of `rows` whose prompts a walk comes by; `score_shared` is given it as `after`.

    The others are left for `generate_shared`: prompts that no answer is fed after, rows of schemes with branches, and
    those that a walk lost to memory.
    """

    model: Any
    parts: Split
    rows: Sequence[PromptRow]
    decode: Decode
    _asked: dict[tuple[Scheme, bytes], int] = field(init=False)
    _store: Held | None = field(default=None, init=False)
    _kept: list[int] = field(default_factory=list, init=False)
    _first: list[torch.Tensor] = field(default_factory=list, init=False)
    _said: list[tuple[int, New]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        plain = (index for index, row in enumerate(self.rows) if not row.scheme.branches)
        self._asked = {(self.rows[index].scheme, self.rows[index].ids.tobytes()): index for index in plain}

    def at_once(self, chunk: Sequence[Sequence[AnswerRow]]) -> int:
        """Prompts of a chunk, under all of its schemes, that decode together; a new store for them."""
        own = [index for rows in chunk for row in rows if (index := self._place(row)) is not None]
        room = max((len(self.rows[i].ids) + self.rows[i].new_tokens for i in own), default=1)
        most = MOST_ROWS if self.parts.rows else 1
        self._store, self._kept, self._first = Held(room=room), list[int](), list[torch.Tensor]()
        return max(1, min(most, rows_held(self.model, room)) // len(chunk))

    def keep(self, rows: Sequence[AnswerRow], held: Held, predicted: Sequence[torch.Tensor], most: int) -> None:
        """Copy what is held of a prompt that was fed under several schemes, if all of them are asked for; `predicted`
        are token ids `[T]` of each, from before the answer on."""
        own = [index for row in rows if (index := self._place(row)) is not None]
        if len(own) < len(rows):
            return
        assert self._store is not None
        self._store.take(held, len(self.rows[own[0]].ids), len(self._kept), most * len(rows))
        self._kept += own
        self._first += [each[0] for each in predicted]

    def go_on(self) -> None:
        """Decode what was kept."""
        kept, store = self._kept, self._store
        if not kept:
            return
        assert store is not None
        first = torch.stack(self._first).tolist()
        self._store, self._kept, self._first = Held(room=store.room), list[int](), list[torch.Tensor]()
        new = stepped(self.model, self.parts, [self.rows[i] for i in kept], first, store, self.decode)
        done = set(kept)
        self._asked = {key: i for key, i in self._asked.items() if i not in done}  # a chunk may be walked again
        self._said += [(i, np.array(tokens, dtype=np.int32)) for i, tokens in zip(kept, new, strict=True)]

    def said(self) -> list[tuple[int, New]]:
        """Index into rows and new tokens of what was decoded since this was asked last."""
        found, self._said = self._said, list[tuple[int, New]]()
        return found

    def _place(self, row: AnswerRow) -> int | None:
        return self._asked.get((row.scheme, row.ids[: -row.answer_tokens].tobytes()))
