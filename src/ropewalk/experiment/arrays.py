"""Raw files of a run: arrays as safetensors, whole or not there, each what its hash says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ropewalk.errors import StoreError
from ropewalk.experiment.guards import DATABASE, writing
from ropewalk.files import read_inside, sha256, write_whole

MAX_RAW_BYTES = 2**29
"""Of one raw file: 56 million tokens of documents, 128 million losses."""


def write_arrays(directory: Path, name: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """The sha256 of `directory/name`, which is written whole or not at all; arrays of any shape and dtype by name.

    Raises:
        StoreError: it is too large, or cannot be written.
    """
    data = save({key: np.ascontiguousarray(value) for key, value in arrays.items()})
    if len(data) > MAX_RAW_BYTES:
        raise StoreError(
            f"{directory / name}: needs {len(data)} bytes, more than {MAX_RAW_BYTES}; measure "
            "fewer or shorter documents."
        )
    with writing(directory):
        write_whole(directory, name, data)
    return sha256(data)


def read_arrays(directory: Path, name: str, expected: str) -> dict[str, NDArray[Any]]:
    """The arrays of `directory/name` by name, of any shape and dtype.

    Raises:
        StoreError: the file is missing, lies outside the run, or is not what was written.
    """
    path = directory / name
    try:
        data = _read(directory, name)
        if sha256(data) != expected:
            raise StoreError(
                f"{path}: its sha256 is not {expected[:16]}..., the file was altered or torn; "
                "run again to measure it anew."
            )
        return load(data)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); run again to measure it anew.") from None
    except (SafetensorError, LookupError, TypeError, ValueError) as error:  # the others for kinds numpy has not
        raise StoreError(
            f"{path}: is no safetensors file ({error}); delete it and run again to measure it anew."
        ) from None


def is_whole(directory: Path, name: str, expected: str) -> bool:
    """Whether a file is there and what was written."""
    try:
        return sha256(_read(directory, name)) == expected
    except OSError:
        return False


def _read(directory: Path, name: str) -> bytes:
    """The bytes of a file. Raises StoreError where it lies outside the run, and OSError where it cannot be read."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise StoreError(f"{directory / DATABASE}: names the raw file {name!r} outside the run; restore it.")
    return read_inside(directory, str(path), MAX_RAW_BYTES)
