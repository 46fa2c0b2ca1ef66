"""What a run's directory must be for who writes to it and who reads it, said in one sentence where it is not."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ropewalk.errors import StoreError
from ropewalk.experiment.opening import is_as_sealed

DATABASE = "run.sqlite"
LOCK = "run.lock"
UNBORN = (LOCK, DATABASE + ".new", DATABASE + ".new-journal")
"""What a process killed while it made a run leaves in its directory; nothing is lost with them."""


def require_empty(directory: Path) -> None:
    """Refuse a directory that holds anything.

    Raises:
        StoreError: naming one of the files, or that it is a file itself.
    """
    if directory.is_dir():
        others = sorted(path.name for path in directory.iterdir() if path.name not in UNBORN)
        if others:
            what = "a run" if DATABASE in others else f"{others[0]!r} and no run"
            raise StoreError(f"{directory}: holds {what}; name an empty or a new directory.")
    elif directory.exists():
        raise StoreError(f"{directory}: is a file and no directory; name an empty or a new directory.")


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn what disks and SQLite refuse into one sentence."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{directory}: cannot be written ({error.strerror or error}); free space or choose another "
            "directory with --out, then run again: finished work is kept."
        ) from None
    except sqlite3.Error as error:
        raise StoreError(
            f"{directory / DATABASE}: cannot be written ({error}); close other programs that use it, "
            "free space, then run again: finished work is kept."
        ) from None


@contextlib.contextmanager
def sound(directory: Path) -> Iterator[None]:
    """Turn what nonsense in a run directory makes of the code that reads it into one sentence, cause attached.

    A run may come from anybody. Every value in it that something depends on is checked where it is used; this is for
    values of another kind than any that ropewalk writes, in any of some sixty columns and records. Where the database
    is byte for byte what its writer left, the mistake is ropewalk's own and stays what it is.
    """
    try:
        yield
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RecursionError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        if is_as_sealed(directory / DATABASE):
            raise
        said = " ".join(str(error).split())[:120]
        raise StoreError(
            f"{directory / DATABASE}: what it holds does not fit together ({type(error).__name__}: {said}); restore "
            "the file, or start a new run."
        ) from error
