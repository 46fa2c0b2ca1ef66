"""Headers of GGUF files that count more than they hold, or more than any model has, end at once and in a sentence."""

from __future__ import annotations

import os
import struct

import pytest

from ropewalk.errors import ExportError, ModelError
from ropewalk.export.gguf_file import open_gguf
from ropewalk.models.gguf import read_header

ARRAY, UINT8, STRING = 9, 0, 8


def header(value: bytes, keys: int = 1, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + struct.pack("<Q", 1) + b"a" + value


def array(kind: int, count: int) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, count)


BAD = {
    "more bytes than the file": header(array(UINT8, 2**20) + bytes(80)),
    "an array without end": header(array(UINT8, 2**62) + bytes(80)),
    "strings without end": header(array(STRING, 2**62) + bytes(80)),
    "empty arrays in an array": header(array(ARRAY, 2**40) + bytes(80)),
    "arrays of arrays": header(struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 2000),
    "keys": header(b"", keys=2**60),
    "tensors": header(struct.pack("<IB", UINT8, 1), tensors=2**60),
    "a string": header(struct.pack("<IQ", STRING, 2**63)),
    "nothing": b"",
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_is_refused(tmp_path, raw):
    (tmp_path / "bad.gguf").write_bytes(raw)
    with pytest.raises(ModelError, match="is no GGUF file"):
        read_header(tmp_path / "bad.gguf")
    with pytest.raises(ExportError):
        open_gguf(tmp_path / "bad.gguf")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelError, match="no regular file"):
        read_header(tmp_path / "pipe.gguf")
