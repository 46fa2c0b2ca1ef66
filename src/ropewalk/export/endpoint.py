"""A running server, asked for the log-probabilities of token ids that it is given."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.export.asking import Server
from ropewalk.export.engine import Live, Text

if TYPE_CHECKING:  # it loads torch, and engines are also named in `ropewalk export --help`
    from ropewalk.export.check import Observed

DEADLINE_S = 1800.0
"""Of a whole check: some servers answer once per token."""
BYTES, TOKEN_BYTES = 2**23, 256
"""Of an answer: whatever its length, and more per token; those that are known take some 100."""
UNKNOWN = "of unknown version"


def server_at(url: str, tokens: int) -> Server:
    """A server that may take as long and answer as much as so many tokens need.

    Raises:
        ExportError: the address is none.
    """
    named = url.rstrip("/").removesuffix("/v1")
    return Server(url=named, ends=time.monotonic() + DEADLINE_S, most=BYTES + TOKEN_BYTES * tokens)


def run(url: str, live: Live, ids: NDArray[np.int32], text: Text) -> Observed:
    """Ask the server at `url` for the losses of `ids` int32 `[T]`.

    Raises:
        ExportError: it cannot be reached, is another engine, or tokenises otherwise.
    """
    server = server_at(url, len(ids))
    *others, last = live.kinds
    kind = next((each for each in others if each.known(server)), last)
    return kind.losses(server, ids.tolist(), text)


def observed(server: Server, engine: str, logprobs: list[Any], *, first: bool = True) -> Observed:
    """The losses under the name of the engine; NaN for the first where the server has none (null) and need not have."""
    from ropewalk.export.check import Observed

    missing = not first and logprobs[:1] == [None]
    with as_documented(server, "gave a log-probability that is no number"):
        found = -np.array([_number(value) for value in logprobs[missing:]], dtype=np.float64)
    if not np.isfinite(found).all():
        raise server.broken("gave a log-probability that is not finite")
    return Observed(name=f"{engine} at {server.url}", nll=np.append([math.nan] * missing, found))


def model_of(server: Server) -> str:
    """The name of the model that an API like OpenAI's serves."""
    with as_documented(server, "lists no model"):
        return word(server.ask("/v1/models")["data"][0]["id"])


@contextmanager
def as_documented(server: Server, otherwise: str) -> Iterator[None]:
    """Whatever an answer of other keys or types raises where it is taken apart, as a sentence."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as wrong:
        raise server.broken(otherwise) from wrong


def word(value: Any) -> str:
    """A name or version as it may be printed and sent back. Raises ValueError for anything else."""
    if not isinstance(value, str) or not 0 < len(value) <= 500:
        raise ValueError("no short text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return float(value)
