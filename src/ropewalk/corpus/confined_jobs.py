"""What runs in the process that `confined` starts: `confined_jobs.py JOB BYTES SECONDS`, JSON in, JSON out."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PIECE = 10**6
"""Characters that are encoded at a time."""
MOST = 10**6
"""Characters that a chat template may make of a message."""


def encode(given: Mapping[str, Any]) -> Iterator[None]:
    """Encode and decode texts with a tokenizer; nothing comes back, the time and memory are what is asked about."""
    from tokenizers import Tokenizer

    yield None
    made = Tokenizer.from_str(given["tokenizer"])
    made.no_padding()
    made.no_truncation()
    for text in given["texts"]:
        for start in range(0, len(text), PIECE):
            ids = made.encode(text[start : start + PIECE]).ids
            for first in range(0, len(ids), 1000):
                made.decode(ids[first : first + 1000])
    yield None


def template(given: Mapping[str, Any]) -> Iterator[str | None]:
    """The text that a chat template makes of messages, as transformers renders it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    yield None
    made = render_jinja_template(
        conversations=[given["messages"]],
        chat_template=given["template"],
        add_generation_prompt=True,
        **given["special_tokens"],
    )[0][0]
    if len(made) > MOST:
        raise ValueError(f"it makes {len(made)} characters of one message")
    yield made


JOBS = {"encode": encode, "template": template}


def _addresses() -> int:
    """Bytes of address space that this process holds; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def done(job: str, size: int, seconds: float) -> dict[str, Any]:
    """The value, or the reason why there is none.

    Time and memory count from where the libraries are loaded, as those of a GPU hold more addresses than any work here
    needs; the alarm kills, as a handler of Python's would wait.
    """
    work = JOBS[job](json.load(sys.stdin))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        next(work)
        most = _addresses() + size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return {"value": next(work)}
    except MemoryError:
        return {"reason": "too much memory"}
    except BaseException as wrong:  # a panic of the tokenizers library is no Exception
        return {"reason": f"{type(wrong).__name__}: {' '.join(str(wrong).split())[:200]}"}


if __name__ == "__main__":
    os.write(1, json.dumps(done(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))).encode())
    os._exit(0)
