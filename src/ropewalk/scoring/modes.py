"""What attention layers do beside attending in one forward pass: go on after what is held, and skip what nobody reads.

Shapes: B rows, G key/value heads, S positions fed, D head dimension, E that of values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import torch
from torch import Tensor


@dataclass(slots=True, eq=False)
class Held:
    """Keys `[B, G, room, D]` and values `[B, G, room, E]` of the tokens fed last, per layer, as they reach attention:
    turned, or under branches not yet turned. Passes inside `continuing` fill it.

    Attributes:
        room: positions that it has place for.
    """

    room: int
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def put(self, layer: int, start: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep `[B, G, S, D]` from position `start` on, over what was there; everything up to their end comes back."""
        end = start + key.shape[2]
        if layer not in self.keys:
            self.keys[layer], self.values[layer] = (
                part.new_empty((*part.shape[:2], self.room, part.shape[3])) for part in (key, value)
            )
        self.keys[layer][:, :, start:end] = key
        self.values[layer][:, :, start:end] = value
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def put_each(self, layer: int, places: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep `[B, G, 1, D]` at each row's own place `[B]`, over what was there; the whole room comes back."""
        rows = torch.arange(len(places), device=places.device)
        self.keys[layer][rows, :, places] = key[:, :, 0]
        self.values[layer][rows, :, places] = value[:, :, 0]
        return self.keys[layer], self.values[layer]

    def take(self, other: Held, end: int, row: int, rows: int) -> None:
        """Copy the first `end` positions of what another holds to rows from `row` on, of `rows` in all."""
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer, part in theirs.items():
                if layer not in mine:  # zeros: what a mask leaves out must still be a number
                    mine[layer] = part.new_zeros((rows, part.shape[1], self.room, part.shape[3]))
                mine[layer][row : row + len(part), :, :end] = part[:, :, :end]

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows."""
        for part in (self.keys, self.values):
            for layer, every in part.items():
                if rows != list(range(len(every))):
                    part[layer] = every[rows]


@dataclass(slots=True, frozen=True, kw_only=True, eq=False)
class Mode:
    """What attention layers do beside attending in one forward pass: go on after the first `start` positions of what is
    held, or with one token per row at its own of `places` [B], and leave out of the last layer all positions but the
    last `tail` (0: none is left out)."""

    held: Held | None = None
    start: int = 0
    tail: int = 0
    places: Tensor | None = None
    layer: Iterator[int] = field(default_factory=count)


_mode = Mode()


def mode() -> Mode:
    """What the forward pass that runs asks of its attention layers."""
    return _mode


@contextmanager
def continuing(held: Held, start: int, tail: int) -> Iterator[None]:
    """A forward pass inside the block attends to the first `start` positions held as well, and is held behind them.

    The caller feeds `position_ids` that start at `start`, and reads the last `tail` positions of what comes out.
    """
    with _switched(held=held, start=start, tail=tail):
        yield


@contextmanager
def stepping(held: Held, places: Tensor) -> Iterator[None]:
    """A forward pass inside the block feeds one token per row, each at its own place `[B]` behind what is held of it.

    The caller feeds `position_ids` `[B, 1]` that are the places.
    """
    with _switched(held=held, places=places):
        yield


@contextmanager
def only_last(tail: int) -> Iterator[None]:
    """A forward pass inside the block owes the caller the last `tail` positions; the last layer skips the others."""
    with _switched(tail=tail):
        yield


def wanted_tail() -> int:
    """How many last positions are wanted of the last layer; 0 for all."""
    return _mode.tail


@contextmanager
def _switched(**changes: Any) -> Iterator[None]:
    global _mode
    before, _mode = _mode, replace(_mode, **changes, layer=count())
    try:
        yield
    finally:
        _mode = before
