"""Who writes to a run directory: one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ropewalk.errors import StoreError
from ropewalk.experiment.guards import LOCK, writing
from ropewalk.files import open_own

PAUSE_S = 0.2
"""A reader who looks whether the lock is held (`files.is_locked`) shares it for an instant."""


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """One process at a time writes to a run directory."""
    with contextlib.ExitStack() as held:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(os.fdopen(open_own(out, LOCK), "r+"))
            if not (_taken(lock) or _taken(lock, PAUSE_S)):
                owner = lock.read(200).strip() or "another process"
                raise StoreError(f"{out}: is in use by {owner}; wait for it, or choose another --out.")
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
        yield


def _taken(lock: IO[str], after_s: float = 0.0) -> bool:
    """Whether this process now holds a lock, which it tries to take after a pause."""
    time.sleep(after_s)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
