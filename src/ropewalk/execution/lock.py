"""Who writes to a run directory: one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ropewalk.errors import StoreError
from ropewalk.experiment.guards import LOCK, writing
from ropewalk.files import open_own


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """One process at a time writes to a run directory."""
    with contextlib.ExitStack() as held:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(os.fdopen(open_own(out, LOCK), "r+"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = lock.read(200).strip() or "another process"
                raise StoreError(f"{out}: is in use by {owner}; wait for it, or choose another --out.") from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
        yield
