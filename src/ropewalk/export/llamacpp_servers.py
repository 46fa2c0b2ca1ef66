"""The two servers that llama.cpp has, asked for the losses of given tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ropewalk.export.asking import Server
from ropewalk.export.endpoint import UNKNOWN, as_documented, observed, word
from ropewalk.export.engine import Kind, Text

if TYPE_CHECKING:
    from ropewalk.export.check import Observed

FORCED = 1e4
"""Logit bias by which llama-server is made to say the token that comes next anyway."""


def llama_server(server: Server, ids: list[int], text: Text) -> Observed:
    """One token a request: llama-server has no echo, so it is made to say each next token, and tells what that
    token's probability was before any bias."""
    with as_documented(server, "/props says no build"):
        version = word(server.ask("/props").get("build_info", "of unknown build"))
    found = []
    for end, token in enumerate(ids[1:], start=1):
        body = {"prompt": ids[:end], "n_predict": 1, "n_probs": 1, "temperature": 0, "cache_prompt": True}
        with as_documented(server, f"llama-server {version} gave no completion_probabilities"):
            entry = server.ask("/completion", body | {"logit_bias": [[token, FORCED]]})["completion_probabilities"][0]
            said, value = entry["id"], entry["logprob"]
        if said != token:
            raise server.broken(f"llama-server {version} did not say token {token} when it was made to")
        found.append(value)
    return observed(server, f"llama-server {version}", found)


def llama_cpp_python(server: Server, ids: list[int], text: Text) -> Observed:
    """Text in, as its API takes no ids: echo with logprobs. Needs BOS first: without it, version 0.3 counts the
    entries from one token too early."""
    with as_documented(server, "/openapi.json says no version"):
        version = word((server.ask("/openapi.json").get("info") or {}).get("version", UNKNOWN))
    body = {"prompt": text(ids), "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    with as_documented(server, f"llama-cpp-python {version} gave no logprobs (start it with --logits_all true)"):
        answer = server.ask("/v1/completions", body)
        found = answer["choices"][0]["logprobs"]
        values, words = list(found["token_logprobs"]), found.get("tokens") or [None]
        generated = int(answer.get("usage", {}).get("completion_tokens", 1))  # more until a letter is whole
    first, second = text(ids[:1]), text(ids[1:2])
    if len(values) - generated != len(ids) - 1 or words[0] == first != second:  # it names no BOS
        raise server.broken(
            f"llama-cpp-python {version} takes text alone, and made other tokens of it than the {len(ids)}, or has no "
            "BOS first, without which its echo counts from one token too early (llama-server has no such limits)"
        )
    return observed(server, f"llama-cpp-python {version}", values[: len(ids) - 1], first=False)


def _is_llama_server(server: Server) -> bool:
    return server.has("/props") is not None


def _is_llama_cpp_python(server: Server) -> bool:
    schema = server.has("/openapi.json")
    title = (schema.get("info") or {}).get("title") if isinstance(schema, dict) else None
    return isinstance(title, str) and "llama.cpp" in title


KINDS = (
    Kind(name="llama-server", known=_is_llama_server, losses=llama_server),
    Kind(name="llama-cpp-python", known=_is_llama_cpp_python, losses=llama_cpp_python),
)
