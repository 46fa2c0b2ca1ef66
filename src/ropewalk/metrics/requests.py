"""Requests: what a metric asks of a model, as values whose identity is a hash of canonical JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.files import sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The loss of every token but the first of `start..stop-1` of a document; `bos` stands in for the first."""

    document: int
    start: int
    stop: int
    bos: bool = False

    @property
    def tokens(self) -> int:
        """Positions fed."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forced:
    """Losses and argmax of the last `answer_tokens` tokens of `ids` int32 `[T]`, and the argmax after them."""

    ids: NDArray[np.int32]
    answer_tokens: int

    @property
    def key(self) -> str:
        """32 hex digits; equal for equal requests."""
        return _key({"forced": _digest(self.ids), "answer_tokens": self.answer_tokens})

    @property
    def answer(self) -> list[int]:
        return self.ids[-self.answer_tokens :].tolist()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generated:
    """Up to `new_tokens` greedy tokens after `ids` int32 `[T]`, fewer where what they say has one of `stop`."""

    ids: NDArray[np.int32]
    new_tokens: int
    stop: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """32 hex digits; equal for equal requests."""
        stop = {"stop": list(self.stop)} if self.stop else {}
        return _key({"generated": _digest(self.ids), "new_tokens": self.new_tokens, **stop})


def _digest(ids: NDArray[np.int32]) -> str:
    """sha256 of tokens `[T]`, as little-endian int32."""
    return sha256(ids.astype("<i4").tobytes())


def _key(value: dict[str, Any]) -> str:
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())[:32]
