"""`ropewalk diagnose URL` against servers that never end, point elsewhere, score other tokens or lie."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import injected
import pytest
from faulty_servers import answers, rebuilt, serving
from raw_servers import ENDLESS, HEAD, answer

import checkpoints
from ropewalk.diagnosis import command, servers
from ropewalk.errors import ExportError
from ropewalk.export import endpoint

SERVED = injected.LLAMA


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save(tmp_path_factory.mktemp("served"), SERVED.make(), checkpoints.tokenizer(bos=True))


def diagnosed(url: str, model: Path, **more: Any) -> command.Diagnosis:
    asked = {"model": str(model), "method": SERVED.method, "params": SERVED.params, "length": 512, **more}
    found = command.run(url, command.Options(**asked))
    assert isinstance(found, command.Diagnosis)
    return found


def refusal(url: str, model: Path, **more: Any) -> str:
    with pytest.raises(ExportError) as caught:
        diagnosed(url, model, **more)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 700
    return said


@pytest.mark.parametrize("name", ["a body", "chunks", "an error"])
@pytest.mark.parametrize("target", [None, "openai"])
def test_an_answer_without_end(name: str, target: str | None, raw: Callable[..., Any], model: Path) -> None:
    url, _ = raw(ENDLESS[name])
    assert "it is longer than any that was asked for" in refusal(url, model, target=target)


@pytest.mark.parametrize("target", [None, *servers.kinds()])
def test_an_answer_that_drips(
    target: str | None, raw: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "DEADLINE_S", 0.3)
    url, _ = raw(lambda: itertools.chain([HEAD], itertools.repeat(b"x")), wait_s=0.02)
    assert "gives no answer (" in refusal(url, model, target=target)


@pytest.mark.parametrize("target", [None, *servers.kinds()])
@pytest.mark.parametrize("code", [302, 308])
def test_no_redirect_is_followed_and_no_secret_sent(
    code: int, target: str | None, raw: Callable[..., Any], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "hidden")
    elsewhere, overheard = raw(lambda: [answer(b'{"version": "1"}')])
    head = b"HTTP/1.1 %d Go\r\nLocation: %s/version\r\n" % (code, elsewhere.encode())
    url, heard = raw(lambda: [answer(b"{}", head)])
    assert "a redirect, which is not followed" in refusal(url, model, target=target)
    assert overheard == []
    assert heard
    assert b"hidden" not in b"".join(heard)


def test_other_tokens_are_no_fault_of_the_rotation(model: Path) -> None:
    """As many, of another vocabulary: nothing fits, from the beginning on."""
    healthy = rebuilt(SERVED.make(), SERVED.rope)
    with serving(answers(healthy, lambda ids: [3 + (7 * token) % 380 for token in ids])) as url:
        found = diagnosed(url, model)
    assert found.name is None
    assert not found.match.grows
    assert "so look at its weights (quantised, others), its cache and its tokens first" in found.sentence


def test_more_tokens_than_were_sent(model: Path) -> None:
    healthy = rebuilt(SERVED.make(), SERVED.rope)
    with serving(answers(healthy, lambda ids: ids[:300] + ids)) as url:
        assert "gave no log-probabilities of these 512 tokens" in refusal(url, model)


def test_the_context_that_a_server_claims_is_not_believed(model: Path) -> None:
    """It says that it takes a million tokens, and keeps the last 192."""

    def handle(path: str, body: Any) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "served", "max_model_len": 10**6, "meta": {"n_ctx_train": 10**6}}]}
        return cut(path, body)

    cut = answers(rebuilt(SERVED.make(), SERVED.rope), lambda ids: ids[-192:])
    with serving(handle) as url:
        found = diagnosed(url, model)
    assert (found.name, found.healthy) == ("context cut", False)
    assert "keeps the last 192 of 512 tokens alone" in found.sentence
