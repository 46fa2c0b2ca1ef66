"""The header of a GGUF file as a small GGUF file: all that is said of the model, without vocabulary and weights.

Layout (github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian): magic, version, number of
tensors, number of pairs; pairs of key, type and value; of each tensor name, shape, type and offset; the data.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ropewalk.models.gguf_limits import NoHeader

MAGIC = b"GGUF"
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by its type: integers of 8, 16 and 32 bits, float32, bool, integers of 64 bits, float64."""

STRING, ARRAY, UINT32, FLOAT32 = 8, 9, 4, 0
DEFAULT_ALIGNMENT = 32
VOCABULARY, ARCHITECTURE, ALIGNMENT = b"tokenizer.ggml.tokens", b"general.architecture", b"general.alignment"


@dataclass(slots=True)
class _Reader:
    """Where in a file one is."""

    data: mmap.mmap
    at: int = 0

    def number(self, form: str) -> int:
        size = struct.calcsize(f"<{form}")
        self.skip(size)
        (value,) = struct.unpack_from(f"<{form}", self.data, self.at - size)
        return value

    def string(self) -> bytes:
        size = self.number("Q")
        self.skip(size)
        return self.data[self.at - size : self.at]

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise NoHeader(f"it ends at byte {len(self.data)}, within its header")

    def value(self, kind: int) -> int:
        """Skip a value; of an array, how many it holds."""
        if kind == STRING:
            self.skip(self.number("Q"))
        elif kind == ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in WIDTHS:
                self.skip(WIDTHS[inner] * count)
            else:
                for _ in range(count):
                    self.value(inner)
            return count
        elif kind in WIDTHS:
            self.skip(WIDTHS[kind])
        else:
            raise NoHeader(f"it holds a value of the unknown type {kind}")
        return 1


def slim(path: Path, keep: Callable[[str], bool]) -> bytes:
    """The header of a GGUF file as a file of its own.

    Arrays of the tokenizer are left out; how many tokens they hold stands under `<architecture>.vocab_size`. Tensors
    that `keep` names keep their float32 data, of the others only the names stay.

    Raises:
        NoHeader: this is no such GGUF file, or is cut off within its header.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data)
        if data[:4] != MAGIC:
            raise NoHeader("it does not begin with GGUF")
        reader.skip(4)
        version, tensors, pairs = reader.number("I"), reader.number("Q"), reader.number("Q")
        if version not in (2, 3):
            raise NoHeader(f"its version is {version}, and 2 and 3 are known")
        kept = _pairs(reader, pairs)
        found = [_tensor(reader, keep) for _ in range(tensors)]
        alignment = kept.pop(ALIGNMENT, (DEFAULT_ALIGNMENT, b""))[0]
        if alignment < 1:
            raise NoHeader("its data are aligned to 0 bytes")
        start = -(-reader.at // alignment) * alignment
        parts = [(name, shape, None if offset is None else start + offset) for name, shape, offset in found]
        return _slim(data, {key: raw for key, (_, raw) in kept.items()}, parts)


def _pairs(reader: _Reader, count: int) -> dict[bytes, tuple[int, bytes]]:
    """Per key its number, if it is one, and the pair as it stands."""
    found: dict[bytes, tuple[int, bytes]] = {}
    tokens = None
    for _ in range(count):
        begin, key = reader.at, reader.string()
        kind, at = reader.number("I"), reader.at
        size = reader.value(kind)
        if kind == ARRAY and key.startswith(b"tokenizer."):
            tokens = size if key == VOCABULARY else tokens
            continue
        number = int.from_bytes(reader.data[at : at + 4], "little") if kind == UINT32 else 0
        found[key] = number, reader.data[begin : reader.at]
    if ARCHITECTURE not in found:
        raise NoHeader("it does not say its general.architecture")
    name = found[ARCHITECTURE][1].removeprefix(_string(ARCHITECTURE))[12:] + b".vocab_size"
    if tokens is not None and name not in found:
        found[name] = tokens, _string(name) + struct.pack("<II", UINT32, tokens)
    return found


def _tensor(reader: _Reader, keep: Callable[[str], bool]) -> tuple[bytes, tuple[int, ...], int | None]:
    """Name, shape, and where among the data it begins if it is kept."""
    name, rank = reader.string(), reader.number("I")
    shape = tuple(reader.number("Q") for _ in range(rank))
    kind, offset = reader.number("I"), reader.number("Q")
    text = name.decode(errors="replace")
    if not keep(text):
        return name, shape, None
    if kind != FLOAT32:
        raise NoHeader(f"{text} has type {kind}, and 0 (float32) is known")
    return name, shape, offset


def _slim(data: mmap.mmap, pairs: dict[bytes, bytes], parts: list[tuple[bytes, tuple[int, ...], int | None]]) -> bytes:
    """The small file; tensors without a place in `data` become one zero each."""
    header = MAGIC + struct.pack("<IQQ", 3, len(parts), len(pairs)) + b"".join(pairs.values())
    body = b""
    for name, shape, place in parts:
        dims = (1,) if place is None else shape
        size = 4 * math.prod(dims)
        header += _string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, FLOAT32, len(body))
        raw = bytes(4) if place is None else data[place : place + size]
        if place is not None and len(raw) != size:
            raise NoHeader(f"it ends at byte {len(data)}, within {name.decode(errors='replace')}")
        body += raw + bytes(-len(raw) % DEFAULT_ALIGNMENT)
    return header + bytes(-len(header) % DEFAULT_ALIGNMENT) + body


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text
