"""A running server, asked for the log-probabilities of token ids that it is given.

Live: all four, vLLM 0.32 and SGLang 0.5.23 among them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.export.asking import Server
from ropewalk.export.check import Observed

DEADLINE_S = 1800.0
"""Of a whole check: llama-server answers once per token."""
BYTES, TOKEN_BYTES = 2**23, 256
"""Of an answer: whatever its length, and more per token; vLLM's and llama-cpp-python's take some 100."""
FORCED = 1e4
"""Logit bias by which llama-server is made to say the token that comes next anyway."""


def run(url: str, target: str, ids: NDArray[np.int32], text: Text) -> Observed:
    """Ask the server at `url` for the losses of `ids`.

    Raises:
        ExportError: it cannot be reached, is another engine, or tokenises otherwise.
    """
    named = url.rstrip("/").removesuffix("/v1")
    server = Server(url=named, ends=time.monotonic() + DEADLINE_S, most=BYTES + TOKEN_BYTES * len(ids))
    if target == "llama.cpp":
        target = "llama-server" if server.has("/props") is not None else "llama-cpp-python"
    return ASKED[target](server, ids.tolist(), text)


Text = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens as they are written."""


def vllm(server: Server, ids: list[int], text: Text) -> Observed:
    """`prompt_logprobs: 0` gives, of every prompt token, its own log-probability, keyed by its id."""
    with _as_documented(server, "/version says no version"):
        version = _word(server.ask("/version")["version"])
    body = {"model": _model(server), "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    with _as_documented(server, f"vLLM {version} gave no prompt_logprobs of these {len(ids)} tokens"):
        entries = server.ask("/v1/completions", body)["choices"][0]["prompt_logprobs"]
        found = [entry[str(token)]["logprob"] for token, entry in zip(ids[1:], entries[1:], strict=True)]
    return Observed(name=f"vLLM {version} at {server.url}", nll=_nll(server, found))


def sglang(server: Server, ids: list[int], text: Text) -> Observed:
    """`return_logprob` from the first token on gives [log-probability, id, text] of every one."""
    facts = server.has("/get_server_info") or server.ask("/server_info")
    with _as_documented(server, "its server_info says no version"):
        version = _word(facts.get("version", UNKNOWN))
    sampling = {"max_new_tokens": 1, "temperature": 0}
    body = {"input_ids": ids, "sampling_params": sampling, "return_logprob": True, "logprob_start_len": 0}
    with _as_documented(server, f"SGLang {version} gave no input_token_logprobs"):
        entries = server.ask("/generate", body)["meta_info"]["input_token_logprobs"]
        same = [entry[1] for entry in entries] == ids
        found = [entry[0] for entry in entries[1:]]
    if not same:
        raise server.broken(f"SGLang {version} scored other tokens than the {len(ids)} that were sent")
    return Observed(name=f"SGLang {version} at {server.url}", nll=_nll(server, found))


def llama_server(server: Server, ids: list[int], text: Text) -> Observed:
    """One token a request: llama-server has no echo, so it is made to say each next token, and tells what that
    token's probability was before any bias."""
    with _as_documented(server, "/props says no build"):
        version = _word(server.ask("/props").get("build_info", "of unknown build"))
    found = []
    for end, token in enumerate(ids[1:], start=1):
        body = {"prompt": ids[:end], "n_predict": 1, "n_probs": 1, "temperature": 0, "cache_prompt": True}
        with _as_documented(server, f"llama-server {version} gave no completion_probabilities"):
            entry = server.ask("/completion", body | {"logit_bias": [[token, FORCED]]})["completion_probabilities"][0]
            said, value = entry["id"], entry["logprob"]
        if said != token:
            raise server.broken(f"llama-server {version} did not say token {token} when it was made to")
        found.append(value)
    return Observed(name=f"llama-server {version} at {server.url}", nll=_nll(server, found))


def llama_cpp_python(server: Server, ids: list[int], text: Text) -> Observed:
    """Text in, as its API takes no ids: echo with logprobs. Needs BOS first: without it, version 0.3 counts the
    entries from one token too early."""
    with _as_documented(server, "/openapi.json says no version"):
        version = _word((server.ask("/openapi.json").get("info") or {}).get("version", UNKNOWN))
    body = {"prompt": text(ids), "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    with _as_documented(server, f"llama-cpp-python {version} gave no logprobs (start it with --logits_all true)"):
        values = list(server.ask("/v1/completions", body)["choices"][0]["logprobs"]["token_logprobs"])
    if len(values) != len(ids):  # without BOS, with one that was generated
        raise server.broken(
            f"llama-cpp-python {version} takes text alone, and made other tokens of it than the {len(ids)}, or has no "
            "BOS first, without which its echo counts from one token too early (llama-server has no such limits)"
        )
    return Observed(name=f"llama-cpp-python {version} at {server.url}", nll=_nll(server, values[:-1], first=False))


UNKNOWN = "of unknown version"


def _model(server: Server) -> str:
    with _as_documented(server, "lists no model"):
        return _word(server.ask("/v1/models")["data"][0]["id"])


def _nll(server: Server, logprobs: list[Any], *, first: bool = True) -> NDArray[np.float64]:
    """The losses; NaN for one that there need not be, the first, where the server has none (null)."""
    missing = not first and logprobs[:1] == [None]
    with _as_documented(server, "gave a log-probability that is no number"):
        found = -np.array([_number(value) for value in logprobs[missing:]], dtype=np.float64)
    if not np.isfinite(found).all():
        raise server.broken("gave a log-probability that is not finite")
    return np.append([math.nan] * missing, found)


@contextmanager
def _as_documented(server: Server, otherwise: str) -> Iterator[None]:
    """Whatever an answer of other keys or types raises where it is taken apart, as a sentence."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as wrong:
        raise server.broken(otherwise) from wrong


def _word(value: Any) -> str:
    """A name or version as it may be printed and sent back. Raises ValueError for anything else."""
    if not isinstance(value, str) or not 0 < len(value) <= 500:
        raise ValueError("no short text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return float(value)


ASKED: dict[str, Callable[[Server, list[int], Text], Observed]] = {
    "vllm": vllm,
    "sglang": sglang,
    "llama-server": llama_server,
    "llama-cpp-python": llama_cpp_python,
}
