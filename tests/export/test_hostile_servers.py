"""`--endpoint` against servers that never end, drip, point elsewhere, or answer in JSON that nobody expects."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from raw_servers import ENDLESS, HEAD, answer

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES, endpoint

IDS = np.array([7, 3, 9, 4], dtype=np.int32)
KINDS = ("vllm", "sglang", "llama.cpp")
DEEP = b"[" * 200_000


def refusal(url: str, target: str = "vllm") -> str:
    with pytest.raises(ExportError) as caught:
        endpoint.run(url, ENGINES[target].server, IDS, lambda ids: " ".join(map(str, ids)))
    said = str(caught.value)
    assert said.startswith("server")
    assert len(said) < 700
    return said


@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_without_end(name: str, raw: Callable[..., Any]) -> None:
    url, _ = raw(ENDLESS[name])
    assert "it is longer than any that was asked for" in refusal(url)


@pytest.mark.parametrize(
    "first", [b"", HEAD, HEAD + b"Content-Length: 99999\r\n\r\n"], ids=["status", "headers", "body"]
)
def test_an_answer_that_drips_ends_with_the_time_for_all(
    first: bytes, raw: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte is late by itself."""
    monkeypatch.setattr(endpoint, "DEADLINE_S", 0.4)
    url, _ = raw(lambda: itertools.chain([first], itertools.repeat(b"x")), wait_s=0.02)
    assert "gives no answer (" in refusal(url)


def test_many_answers_share_the_time(raw: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "DEADLINE_S", 0.5)
    monkeypatch.setattr(endpoint.Server, "has", lambda self, path: {})
    good = {"build_info": "b1", "completion_probabilities": [{"id": 5, "logprob": -1.0}]}
    url, heard = raw(lambda: [b"", answer(json.dumps(good).encode())], wait_s=0.05)
    with pytest.raises(ExportError, match=r"gives no answer \((it took too long in all|timed out)\)"):
        endpoint.run(url, ENGINES["llama.cpp"].server, np.full(1000, 5, dtype=np.int32), str)
    assert 1 < len(heard) < 100


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(code: int, raw: Callable[..., Any]) -> None:
    elsewhere, heard = raw(lambda: [answer(b'{"version": "1"}')])
    head = b"HTTP/1.1 %d Go\r\nLocation: %s/version\r\n" % (code, elsewhere.encode())
    url, _ = raw(lambda: [answer(b"{}", head)])
    said = refusal(url)
    assert f"answers {code} ({{}}), a redirect, which is not followed: name the address it leads to" in said
    assert heard == []


def test_no_secret_leaves(raw: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Nothing is sent to a proxy, and no password of the address, of .netrc or of the environment to anybody."""
    proxy, overheard = raw(lambda: [answer(b"{}")])
    url, heard = raw(lambda: [answer(b"{}")])
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hidden", encoding="utf-8")
    for name, value in {"HOME": str(tmp_path), "http_proxy": proxy, "HTTP_PROXY": proxy, "HF_TOKEN": "hidden"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    refusal(url)
    assert overheard == []
    assert heard
    assert b"hidden" not in b"".join(heard)
    said = refusal(url.replace("http://", "http://me:hidden@"))
    assert "neither passwords nor queries are sent" in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    "url",
    ["http://", "http://[", "http://h:99999999", "http://h:x", "http://h:0", "//h", "http://\0:1", "http://a b:1",
     "http://" + "x" * 70 + ".test:1", "http://127.0.0.1:1/a\r\nX: y", "http://127.0.0.1:1?x=y", "\udc80"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    assert "\n" not in refusal(url)


ODD: list[Any] = [
    b"NaN", b"null", b"7", b"true", b'"text"', b"[]", b"{}", b"[[]]", b"\xff\xfe\x00", b"", DEEP, b'{"a":' * 100_000,
    b"9" * 5000, b"1e999", b"-Infinity", b'{"version": null}', b'{"version": [1]}', b'{"version": {"a": 1}}',
    b'{"version": "' + b"v" * 10**6 + b'"}', b'{"info": 3}', b'{"info": [1]}', b'{"build_info": 7}', b"\x00" * 40,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", ODD, ids=lambda body: repr(body[:12]))
def test_odd_json_everywhere(kind: str, body: bytes, raw: Callable[..., Any]) -> None:
    url, _ = raw(lambda: [answer(body)])
    assert refusal(url, kind)


VALUES: list[str] = [
    "NaN", "Infinity", "-Infinity", "null", "true", '"x"', "[]", "[[1]]", "{}", "1" + "0" * 400, "9" * 5000, "1e400",
]  # fmt: skip
PATHS = {
    "vllm": ("/v1/completions", '{"choices": [{"prompt_logprobs": [null, {"3": {"logprob": -1}}, '
             '{"9": {"logprob": %s}}, {"4": {"logprob": -1}}]}]}'),
    "sglang": ("/generate", '{"meta_info": {"input_token_logprobs": [[null,7],[-1,3],[%s,9],[-1,4]]}}'),
    "llama-server": ("/completion", '{"completion_probabilities": [{"id": 3, "logprob": %s}]}'),
    "llama-cpp-python": ("/v1/completions", '{"choices": [{"logprobs": {"token_logprobs": [null, -1, %s, -1]}}]}'),
}  # fmt: skip
FACTS = {
    "/version": {"version": "1"},
    "/v1/models": {"data": [{"id": "m"}]},
    "/get_server_info": {"version": "1"},
    "/openapi.json": {"info": {"version": "1"}},
}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("value", VALUES, ids=lambda text: text[:12])
def test_log_probabilities_that_are_no_numbers(kind: str, value: str, serve: Callable[..., str]) -> None:
    """A NaN in the middle would leave its token out of the comparison."""
    path, body = PATHS[kind]
    facts = FACTS | ({"/props": {"build_info": "b1"}} if kind == "llama-server" else {})
    url = serve(lambda asked, _: (body % value).encode() if asked == path else facts.get(asked))
    assert "\n" not in refusal(url, kind if kind in ("vllm", "sglang") else "llama.cpp")
