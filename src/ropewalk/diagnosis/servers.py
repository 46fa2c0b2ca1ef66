"""Any server's losses of given tokens: the engines of `export --check --endpoint`, told apart by asking, and whatever
else answers OpenAI's completions with echo and logprobs."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExportError
from ropewalk.export import endpoint
from ropewalk.export.asking import Refused, Server
from ropewalk.export.check import Observed

OPENAI = "openai"
KINDS = (*endpoint.ASKED, OPENAI)
LINE = {"vllm": "vllm", "sglang": "sglang", "llama-server": "llama.cpp", "llama-cpp-python": "llama.cpp"}
"""The export target that has a command line for each."""


def server_at(url: str, tokens: int) -> Server:
    """A server that may take as long and answer as much as so many tokens need.

    Raises:
        ExportError: the address is none.
    """
    most = endpoint.BYTES + endpoint.TOKEN_BYTES * tokens
    return Server(url=url.rstrip("/").removesuffix("/v1"), ends=time.monotonic() + endpoint.DEADLINE_S, most=most)


def kind_of(server: Server) -> str:
    """Which of KINDS it is, by what only that one has.

    Raises:
        ExportError: it gives no answer.
    """
    if isinstance(server.has("/version"), dict):
        return "vllm"
    if server.has("/props") is not None:
        return "llama-server"
    if server.has("/get_server_info") is not None or server.has("/server_info") is not None:
        return "sglang"
    schema = server.has("/openapi.json")
    title = (schema.get("info") or {}).get("title") if isinstance(schema, dict) else None
    return "llama-cpp-python" if isinstance(title, str) and "llama.cpp" in title else OPENAI


def losses(server: Server, kind: str, ids: NDArray[np.int32], text: endpoint.Text) -> Observed:
    """The server's losses of `ids` int32 `[T]`: nll `[T - 1]`, NaN for the first ones where it gives fewer.

    Raises:
        ExportError: it gives none, or scored other tokens.
    """
    found = (openai if kind == OPENAI else endpoint.ASKED[kind])(server, ids.tolist(), text)
    if len(found.nll) != len(ids) - 1:
        raise server.broken(f"gave {len(found.nll)} log-probabilities for {len(ids)} tokens")
    return found


def openai(server: Server, ids: list[int], text: endpoint.Text) -> Observed:
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


def _echoed(server: Server, body: dict[str, Any], ids: list[int], text: endpoint.Text) -> list[Any]:
    body |= {"max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    try:
        answer = server.ask("/v1/completions", body | {"prompt": ids})
    except Refused:
        answer = server.ask("/v1/completions", body | {"prompt": text(ids)})
    return list(answer["choices"][0]["logprobs"]["token_logprobs"])


def require_kind(target: str | None) -> None:
    """Raises ExportError for a --target that is no kind of server."""
    if target is not None and target not in KINDS:
        raise ExportError(f"--target {target!r}: must be one of {', '.join(KINDS)}; leave it out to have it found out.")
