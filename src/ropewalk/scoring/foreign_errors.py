"""What a model's own forward pass raises, told from mistakes of ropewalk's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ropewalk.errors import ModelError, RopewalkError, is_own

PASSING = ("scoring/kernels.py", "scoring/foreign_errors.py")
"""Files whose functions stand between a model's and only hand on what these raise."""


class ForwardError(ModelError):
    """A model's own forward pass that failed: rows that need it have no outcome, and the message says why."""


@contextmanager
def naming(model: Any) -> Iterator[None]:
    """Say in one sentence which model failed and how.

    Raises:
        ForwardError: code that is not ropewalk's raised something that is not about memory.
    """
    outside = Path(__file__).as_posix()
    try:
        yield
    except RopewalkError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or is_own(error) or _is_ours(error.__traceback__, outside):
            raise
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ForwardError(
            f"{type(model).__name__}: its own forward pass failed ({type(error).__name__}: {reason[:300]}); check that "
            "its configuration belongs to its weights and allows so many tokens."
        ) from error


def part(model: Any, outcome: Any, name: str) -> Any:
    """An attribute of what a model's forward pass gives.

    Raises:
        ForwardError: there is none, as where the configuration asks for plain tuples.
    """
    found = getattr(outcome, name, None)
    if found is None:
        raise ForwardError(
            f"{type(model).__name__}: its own forward pass gives a {type(outcome).__name__} without {name}; take "
            "`return_dict` out of its configuration."
        )
    return found


def _is_ours(trace: TracebackType | None, here: str) -> bool:
    """Whether ropewalk's own code, called by the model, is the last of ropewalk's in a traceback."""
    root = Path(__file__).parents[1].as_posix()
    ours: list[str] = []
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(root) and file != here:
            ours.append(file.removeprefix(f"{root}/"))
        trace = trace.tb_next
    return len(ours) > 1 and ours[-1] not in PASSING


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means out of memory (CPU allocators raise a plain RuntimeError)."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "cannot allocate memory" in text


def release() -> None:
    """Give cached device memory back after a failure."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
