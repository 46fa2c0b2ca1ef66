"""What must not be of any input: a traceback, more than 10 s, a terminal code in what is printed."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ropewalk.errors import RopewalkError, visible

LIMIT_S = 10
PATIENCE = 9


class Broken(BaseException):
    """Not an Exception: whoever turns those into refusals must not turn this into one."""


@contextlib.contextmanager
def watched(what: object) -> Iterator[None]:
    """End what works for more than LIMIT_S, or takes PATIENCE times as long, as other programs may use the machine."""
    begun, cpu = time.monotonic(), time.process_time()

    def late(*_: Any) -> None:
        if time.process_time() - cpu > LIMIT_S or time.monotonic() - begun > PATIENCE * LIMIT_S:
            raise Broken(f"more than {LIMIT_S} s: {what!r}"[:2000])

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@dataclass(slots=True)
class Tally:
    inputs: int = 0
    taken: int = 0
    refused: int = 0
    slowest_s: float = 0.0

    def count(self, check: Callable[[Any], None], value: Any) -> None:
        """One input: it is taken, or refused in one line without terminal codes."""
        begun = time.monotonic()
        try:
            with watched(value):
                check(value)
            self.taken += 1
        except RopewalkError as refusal:
            require_plain(str(refusal))
            self.refused += 1
        except Exception as wrong:
            raise Broken(f"traceback {type(wrong).__name__}: {wrong} of {value!r}"[:2000]) from wrong
        self.inputs += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - begun)


def require_plain(text: str, kept: str = "") -> None:
    if visible(text, kept) != text:
        raise Broken(f"printed a terminal code or another line: {text[:500]!r}")


def row(tally: Tally) -> dict[str, Any]:
    return {"inputs": tally.inputs, "taken": tally.taken, "refused": tally.refused,
            "slowest_s": round(tally.slowest_s, 2)}  # fmt: skip
