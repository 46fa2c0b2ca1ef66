"""What the header of a GGUF file may count: held against the file's size before anything is made of it."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

MAX_ELEMENTS = 2**21
"""Of all arrays of a header: a vocabulary of 260,000 has 1.3 million, in tokens, scores, kinds and merges."""
MAX_ENTRIES = 2**16
"""Keys, and tensors."""
MAX_DEPTH = 4
STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by its type (docs/gguf.md of ggml)."""


class NoHeader(ValueError):
    """A file whose header is none, or counts more than it holds or any model has; the text says what is wrong."""


def require_bounded(path: Path) -> None:
    """Walk the metadata of a GGUF file without keeping any.

    Raises:
        NoHeader: it is no regular file, counts more than it holds, or more than any model has.
        OSError: it cannot be read.
    """
    found = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(found, "rb"):
        if not stat.S_ISREG(os.fstat(found).st_mode) or os.fstat(found).st_size < 24:
            raise NoHeader("no regular file, or too short")
        with mmap.mmap(found, 0, access=mmap.ACCESS_READ) as raw:
            _Walk(raw).header()


class _Walk:
    """A place in a header, and how many elements of arrays lie before it."""

    def __init__(self, raw: mmap.mmap) -> None:
        self.raw, self.at, self.elements = raw, 8, 0
        version = int.from_bytes(raw[4:8], "little")
        self.little = version & 0xFFFF != 0

    def number(self, size: int) -> int:
        self.skip(size)
        return int.from_bytes(self.raw[self.at - size : self.at], "little" if self.little else "big")

    def skip(self, size: int) -> None:
        if size > len(self.raw) - self.at:
            raise NoHeader("it counts more than it holds")
        self.at += size

    def header(self) -> None:
        tensors, keys = self.number(8), self.number(8)
        if max(tensors, keys) > MAX_ENTRIES:
            raise NoHeader(f"it counts {tensors} tensors and {keys} keys, more than any model has")
        for _ in range(keys):
            self.skip(self.number(8))
            self.value(self.number(4), 0)

    def value(self, kind: int, depth: int) -> None:
        if kind == STRING:
            self.skip(self.number(8))
        elif kind == ARRAY:
            self.array(depth + 1)
        elif kind in SIZES:
            self.skip(SIZES[kind])
        else:
            raise NoHeader(f"it holds a value of the unknown type {kind}")

    def array(self, depth: int) -> None:
        kind, count = self.number(4), self.number(8)
        self.elements += count
        if self.elements > MAX_ELEMENTS or depth > MAX_DEPTH:
            raise NoHeader(f"its arrays have {self.elements} elements, more than any model has")
        if kind in SIZES:
            return self.skip(SIZES[kind] * count)
        for _ in range(count):
            self.value(kind, depth)
        return None
