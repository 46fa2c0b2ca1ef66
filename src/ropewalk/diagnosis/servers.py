"""Any server's losses of given tokens: the engines of `export --check --endpoint`, told apart by asking, and whatever
else answers OpenAI's completions with echo and logprobs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExportError
from ropewalk.export import Engine, Kind, registered
from ropewalk.export.asking import Refused, Server
from ropewalk.export.check import Observed
from ropewalk.export.engine import Text


def engines() -> Mapping[str, Engine]:
    """The engine of every kind of server that has one, by the kind's name."""
    return {kind.name: each for each in registered().values() if each.server for kind in each.server.kinds}


def kinds() -> Mapping[str, Kind]:
    """Every kind of server by its name; the last is any."""
    own = (kind for each in registered().values() if each.server for kind in each.server.kinds)
    return {each.name: each for each in (*own, OPENAI)}


def kind_of(server: Server) -> str:
    """Which of `kinds` it is, by what only that one has.

    Raises:
        ExportError: it gives no answer.
    """
    return next(name for name, kind in kinds().items() if kind.known(server))


def losses(server: Server, kind: str, ids: NDArray[np.int32], text: Text) -> Observed:
    """The server's losses of `ids` int32 `[T]`: nll `[T - 1]`, NaN for the first ones where it gives fewer.

    Raises:
        ExportError: it gives none, or scored other tokens.
    """
    found = kinds()[kind].losses(server, ids.tolist(), text)
    if len(found.nll) != len(ids) - 1:
        raise server.broken(f"gave {len(found.nll)} log-probabilities for {len(ids)} tokens")
    return found


def openai(server: Server, ids: list[int], text: Text) -> Observed:
    """`echo` with `logprobs`: ids where the server takes them, else the text; what is missing is missing in front, as
    a server that cuts keeps the end of what it is sent."""
    try:
        model = server.ask("/v1/models")["data"][0]["id"]
        values = _echoed(server, {"model": str(model)}, ids, text)
        if not isinstance(values[-1], int | float) or isinstance(values[-1], bool):
            raise TypeError("no number")
        values = values[:-1]  # the last is of the token that was generated
        if len(values) > len(ids) + 1:
            raise ValueError("other tokens")
        last = values[-(len(ids) - 1) :]
        nll = -np.array([math.nan if value is None else float(value) for value in last])
    except (LookupError, TypeError, ValueError, AttributeError) as wrong:
        raise server.broken(
            f"gave no log-probabilities of these {len(ids)} tokens at /v1/completions with echo and logprobs"
        ) from wrong
    if np.isnan(nll[1:]).any() or np.isinf(nll).any():
        raise server.broken("gave a log-probability that is no finite number")
    missing = len(ids) - 1 - len(nll)
    return Observed(name=f"the server at {server.url}", nll=np.append([math.nan] * missing, nll))


def _echoed(server: Server, body: dict[str, Any], ids: list[int], text: Text) -> list[Any]:
    body |= {"max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    try:
        answer = server.ask("/v1/completions", body | {"prompt": ids})
    except Refused:
        answer = server.ask("/v1/completions", body | {"prompt": text(ids)})
    return list(answer["choices"][0]["logprobs"]["token_logprobs"])


def require_kind(target: str | None) -> None:
    """Raises ExportError for a --target that is no kind of server."""
    if target is not None and target not in (known := kinds()):
        raise ExportError(f"--target {target!r}: must be one of {', '.join(known)}; leave it out to have it found out.")


OPENAI = Kind(name="openai", known=lambda server: True, losses=openai)
