"""Servers of the four kinds on loopback, answering as their schema is documented.

vLLM: docs.vllm.ai, OpenAI-compatible server, `prompt_logprobs` of the completions API. SGLang: docs.sglang.io, native
API, `return_logprob` and `logprob_start_len` of /generate. llama-server: tools/server/README.md of llama.cpp.
llama-cpp-python: its OpenAI schema. The last two also ran live: docs/engines.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES, endpoint
from ropewalk.export.check import compared
from ropewalk.export.reference import Reference

IDS = np.array([7, 3, 9, 4], dtype=np.int32)
LOGPROBS = [-1.5, -0.25, -3.0]
Handle = Callable[[str, Any], Any]


def text(ids: Any) -> str:
    return " ".join(map(str, ids))


def vllm(path: str, body: Any) -> Any:
    if path == "/version":
        return {"version": "0.33.0"}
    if path == "/v1/models":
        return {"object": "list", "data": [{"id": "served-name", "object": "model"}]}
    assert path == "/v1/completions"
    assert body["model"] == "served-name"
    assert (body["prompt"], body["prompt_logprobs"], body["max_tokens"]) == (IDS.tolist(), 0, 1)
    entries = [
        {str(token): {"logprob": value, "rank": 3, "decoded_token": "x"}}
        for token, value in zip(IDS[1:], LOGPROBS, strict=True)
    ]
    return {"choices": [{"index": 0, "text": "x", "prompt_logprobs": [None, *entries]}]}


def sglang(path: str, body: Any) -> Any:
    if path == "/get_server_info":
        return {"version": "0.5.23"}
    if path != "/generate":
        return None
    assert (body["input_ids"], body["return_logprob"], body["logprob_start_len"]) == (IDS.tolist(), True, 0)
    entries = [[None, 7, None], *([value, int(t), None] for t, value in zip(IDS[1:], LOGPROBS, strict=True))]
    return {"text": "x", "meta_info": {"prompt_tokens": 4, "input_token_logprobs": entries}}


def llama_server(path: str, body: Any) -> Any:
    if path == "/props":
        return {"build_info": "b6900-abc", "total_slots": 1}
    if path != "/completion":
        return None
    end = len(body["prompt"])
    assert body["prompt"] == IDS[:end].tolist()
    assert (body["n_predict"], body["n_probs"], body["logit_bias"]) == (1, 1, [[int(IDS[end]), 1e4]])
    return {
        "content": "x",
        "completion_probabilities": [{"id": int(IDS[end]), "token": "x", "logprob": LOGPROBS[end - 1]}],
    }


def llama_cpp_python(path: str, body: Any) -> Any:
    """The first token is BOS and has no entry; the next has null; then one that was generated."""
    if path == "/openapi.json":
        return {"info": {"title": "llama.cpp Python API", "version": "0.3.36"}}
    if path != "/v1/completions":
        return None
    assert (body["prompt"], body["echo"], body["logprobs"]) == (text(IDS), True, 1)
    return {"choices": [{"logprobs": {"token_logprobs": [None, *LOGPROBS[1:], -0.1]}}]}


SERVERS = {"vllm": vllm, "sglang": sglang, "llama-server": llama_server, "llama-cpp-python": llama_cpp_python}
NAMES = {
    "vllm": "vLLM 0.33.0",
    "sglang": "SGLang 0.5.23",
    "llama-server": "llama-server b6900-abc",
    "llama-cpp-python": "llama-cpp-python 0.3.36",
}


def target(kind: str) -> str:
    return kind if kind in ("vllm", "sglang") else "llama.cpp"


@pytest.mark.parametrize("kind", SERVERS)
def test_losses_of_known_ids(kind: str, serve: Callable[[Handle], str]) -> None:
    url = serve(SERVERS[kind])
    found = endpoint.run(url, ENGINES[target(kind)].server, IDS, text)
    assert found.name == f"{NAMES[kind]} at {url}"
    expected = [-value for value in LOGPROBS]
    if kind == "llama-cpp-python":
        assert np.isnan(found.nll[0])
        np.testing.assert_array_equal(found.nll[1:], expected[1:])
    else:
        np.testing.assert_array_equal(found.nll, expected)


def test_address_as_it_is_printed(serve: Callable[[Handle], str]) -> None:
    assert endpoint.run(serve(vllm) + "/v1/", ENGINES["vllm"].server, IDS, text).nll.size == 3


def without(handle: Handle, change: Callable[[str, Any], Any]) -> Handle:
    return lambda path, body: change(path, handle(path, body))


def shifted(path: str, found: Any) -> Any:
    if path == "/v1/completions":
        found["choices"][0]["prompt_logprobs"][1] = {"99": {"logprob": -1.0}}
    return found


def short(path: str, found: Any) -> Any:
    if path == "/v1/completions":
        found["choices"][0]["prompt_logprobs"].pop()
    return found


def other_tokens(path: str, found: Any) -> Any:
    if path == "/generate":
        found["meta_info"]["input_token_logprobs"][2][1] = 5
    return found


def unforced(path: str, found: Any) -> Any:
    if path == "/completion":
        found["completion_probabilities"][0]["id"] += 1
    return found


def infinite(path: str, found: Any) -> Any:
    return (
        b'{"meta_info": {"input_token_logprobs": [[null,7],[-Infinity,3],[-1,9],[-1,4]]}}'
        if path == "/generate"
        else found
    )


def no_echo(path: str, found: Any) -> Any:
    return {"choices": [{"logprobs": None}]} if path == "/v1/completions" else found


def more_tokens(path: str, found: Any) -> Any:
    if path == "/v1/completions":
        found["choices"][0]["logprobs"]["token_logprobs"].append(-1.0)
    return found


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("vllm", shifted, "vLLM 0.33.0 gave no prompt_logprobs of these 4 tokens"),
        ("vllm", short, "vLLM 0.33.0 gave no prompt_logprobs of these 4 tokens"),
        ("sglang", other_tokens, "SGLang 0.5.23 scored other tokens than the 4 that were sent"),
        ("sglang", infinite, "gave a log-probability that is not finite"),
        ("sglang", lambda path, found: None if path == "/generate" else found, "/generate: answers 404 (null)"),
        ("sglang", lambda path, found: b"<html>", "gives no answer (Expecting value"),
        ("llama-server", unforced, "did not say token 3 when it was made to"),
        ("llama-cpp-python", no_echo, "gave no logprobs (start it with --logits_all true)"),
        ("llama-cpp-python", more_tokens, "takes text alone, and made other tokens of it than the 4, or has no BOS"),
    ],
)
def test_answers_that_are_refused(
    kind: str, change: Callable[[str, Any], Any], sentence: str, serve: Callable[[Handle], str]
) -> None:
    with pytest.raises(ExportError) as refusal:
        endpoint.run(serve(without(SERVERS[kind], change)), ENGINES[target(kind)].server, IDS, text)
    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith("server http://127.0.0.1:")
    assert "\n" not in str(refusal.value)


def test_nobody_listens() -> None:
    with pytest.raises(ExportError, match=r"gives no answer \(.*refused.*\); is the server running\?$"):
        endpoint.run("http://127.0.0.1:9", ENGINES["vllm"].server, IDS, text)
    with pytest.raises(ExportError, match="must be http://HOST:PORT, as the server prints it"):
        endpoint.run("file:///etc/passwd", ENGINES["vllm"].server, IDS, text)


def reference(nll: list[float]) -> Reference:
    return Reference(
        document="d",
        ids=IDS,
        nll=np.array(nll, dtype=np.float32),
        shipped=np.array([9.0, 9.0, 9.0], dtype=np.float32),
        text=text,
        lengths=(2, 4),
        dtype="float32",
        origin="the patched model",
    )


def test_means_are_compared_over_what_the_engine_gave(serve: Callable[[Handle], str]) -> None:
    from export_requests import ask

    engine = endpoint.run(serve(vllm), ENGINES["vllm"].server, IDS, text)
    said = compared(ask("yarn", factor=2), reference([1.5, 0.25, 3.0]), engine)
    assert "1.500000 of 1.500000 at 2, 1.583333 of 1.583333 at 4" in said
    assert said.endswith(
        "difference at most 0.000% (allowed 0.5%), 0 per token (root mean square; allowed 0.2); the shipped rotation "
        "would give 9.000000, 7.5 per token away."
    )
    with pytest.raises(ExportError, match=r"yarn: the engine does not run what was measured: vLLM 0\.33\.0 at "):
        compared(ask("yarn", factor=2), reference([1.5, 0.25, 3.05]), engine)
    with pytest.raises(ExportError, match=r"at most 0\.6"):  # a short prefix that differs is enough
        compared(ask("yarn", factor=2), reference([1.51, 0.24, 3.0]), engine)


def test_tokens_that_differ_are_found_where_their_means_do_not(serve: Callable[[Handle], str]) -> None:
    """A wrong temperature moves every token, and the mean hardly: 0.6 and 0.003 nats on strand."""
    from export_requests import ask

    engine = endpoint.run(serve(vllm), ENGINES["vllm"].server, IDS, text)
    apart = replace(reference([1.2, 0.55, 3.0]), lengths=(4,))
    with pytest.raises(ExportError, match=r"at most 0\.000% \(allowed 0\.5%\), 0\.24 per token \(root mean square; al"):
        compared(ask("yarn", factor=2), apart, engine)
