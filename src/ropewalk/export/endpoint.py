"""A running server, asked for the log-probabilities of token ids that it is given.

Live: all four, vLLM 0.32 and SGLang 0.5.23 among them.
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExportError
from ropewalk.export.check import Engine

TIMEOUT_S = 600.0
FORCED = 1e4
"""Logit bias by which llama-server is made to say the token that comes next anyway."""

ROOM = {"sglang": 7}
"""Tokens of a served context that a prompt has to leave free; 1 elsewhere, for the one that is generated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where to ask, and the words of error messages."""

    url: str

    def ask(self, path: str, body: Any = None) -> Any:
        """GET, or POST of JSON. Raises ExportError where no JSON comes back."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as wrong:
            said = " ".join(wrong.read(300).decode(errors="replace").split())
            raise Refused(f"--endpoint {self.url}{path}: answers {wrong.code} ({said}); {REMEDY}.") from wrong
        except (OSError, ValueError, http.client.HTTPException) as wrong:
            raise ExportError(
                f"--endpoint {self.url}{path}: gives no answer ({wrong}); is the server running?"
            ) from wrong

    def has(self, path: str) -> Any | None:
        """What stands at a path; None where the server refuses it."""
        try:
            return self.ask(path)
        except Refused:
            return None

    def broken(self, what: str) -> ExportError:
        """The server answers, but not as its engine is documented to."""
        return ExportError(f"--endpoint {self.url}: {what}; {REMEDY}.")


REMEDY = "check that --target names the server's engine, that it serves this model, and its version"


class Refused(ExportError):
    """The server answered with an HTTP error."""


def run(url: str, target: str, ids: NDArray[np.int32], text: Text) -> Engine:
    """Ask the server at `url` for the losses of `ids`.

    Raises:
        ExportError: it cannot be reached, is another engine, or tokenises otherwise.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ExportError(f"--endpoint {url!r}: must be http://HOST:PORT, as the server prints it.")
    server = Server(url=url.rstrip("/").removesuffix("/v1"))
    if target == "llama.cpp":
        target = "llama-server" if server.has("/props") is not None else "llama-cpp-python"
    return ASKED[target](server, ids.tolist(), text)


Text = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens as they are written."""


def vllm(server: Server, ids: list[int], text: Text) -> Engine:
    """`prompt_logprobs: 0` gives, of every prompt token, its own log-probability, keyed by its id."""
    version = server.ask("/version")["version"]
    body = {"model": _model(server), "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    try:
        entries = server.ask("/v1/completions", body)["choices"][0]["prompt_logprobs"]
        found = [entry[str(token)]["logprob"] for token, entry in zip(ids[1:], entries[1:], strict=True)]
    except (LookupError, TypeError, ValueError) as wrong:
        raise server.broken(f"vLLM {version} gave no prompt_logprobs of these {len(ids)} tokens") from wrong
    return Engine(name=f"vLLM {version} at {server.url}", nll=_nll(server, found))


def sglang(server: Server, ids: list[int], text: Text) -> Engine:
    """`return_logprob` from the first token on gives [log-probability, id, text] of every one."""
    facts = server.has("/get_server_info") or server.ask("/server_info")
    version = facts.get("version", "of unknown version")
    sampling = {"max_new_tokens": 1, "temperature": 0}
    body = {"input_ids": ids, "sampling_params": sampling, "return_logprob": True, "logprob_start_len": 0}
    try:
        entries = server.ask("/generate", body)["meta_info"]["input_token_logprobs"]
        same = [entry[1] for entry in entries] == ids
        found = [entry[0] for entry in entries[1:]]
    except (LookupError, TypeError) as wrong:
        raise server.broken(f"SGLang {version} gave no input_token_logprobs") from wrong
    if not same:
        raise server.broken(f"SGLang {version} scored other tokens than the {len(ids)} that were sent")
    return Engine(name=f"SGLang {version} at {server.url}", nll=_nll(server, found))


def llama_server(server: Server, ids: list[int], text: Text) -> Engine:
    """One token a request: llama-server has no echo, so it is made to say each next token, and tells what that
    token's probability was before any bias."""
    version = server.ask("/props").get("build_info", "of unknown build")
    found = []
    for end, token in enumerate(ids[1:], start=1):
        body = {"prompt": ids[:end], "n_predict": 1, "n_probs": 1, "temperature": 0, "cache_prompt": True}
        said = server.ask("/completion", body | {"logit_bias": [[token, FORCED]]})
        try:
            entry = said["completion_probabilities"][0]
            value = entry["logprob"] if entry["id"] == token else None
        except (LookupError, TypeError) as wrong:
            raise server.broken(f"llama-server {version} gave no completion_probabilities") from wrong
        if value is None:
            raise server.broken(f"llama-server {version} did not say token {token} when it was made to")
        found.append(value)
    return Engine(name=f"llama-server {version} at {server.url}", nll=_nll(server, found))


def llama_cpp_python(server: Server, ids: list[int], text: Text) -> Engine:
    """Text in, as its API takes no ids: echo with logprobs. Needs BOS first: without it, version 0.3 counts the
    entries from one token too early."""
    version = (server.ask("/openapi.json").get("info") or {}).get("version", "of unknown version")
    body = {"prompt": text(ids), "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    try:
        values = server.ask("/v1/completions", body)["choices"][0]["logprobs"]["token_logprobs"]
    except (LookupError, TypeError) as wrong:
        raise server.broken(f"llama-cpp-python {version} gave no logprobs (start it with --logits_all true)") from wrong
    if len(values) != len(ids):  # without BOS, with one that was generated
        raise server.broken(
            f"llama-cpp-python {version} takes text alone, and made other tokens of it than the {len(ids)}, or has no "
            "BOS first, without which its echo counts from one token too early (llama-server has no such limits)"
        )
    found = [math.nan if value is None else value for value in values[: len(ids) - 1]]
    return Engine(name=f"llama-cpp-python {version} at {server.url}", nll=_nll(server, found))


def _model(server: Server) -> str:
    try:
        return server.ask("/v1/models")["data"][0]["id"]
    except (LookupError, TypeError) as wrong:
        raise server.broken("lists no model") from wrong


def _nll(server: Server, logprobs: list[Any]) -> NDArray[np.float64]:
    try:
        nll = -np.array(logprobs, dtype=np.float64)
    except (TypeError, ValueError) as wrong:
        raise server.broken("gave a log-probability that is no number") from wrong
    if np.isinf(nll).any() or np.isnan(nll).all():
        raise server.broken("gave a log-probability that is not finite")
    return nll


ASKED: dict[str, Callable[[Server, list[int], Text], Engine]] = {
    "vllm": vllm,
    "sglang": sglang,
    "llama-server": llama_server,
    "llama-cpp-python": llama_cpp_python,
}
