"""`--check --endpoint` from method to sentence, on a server as narrow as the exported length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from ropewalk.errors import ExportError
from ropewalk.export import request
from ropewalk.export.checkpoint import describe
from ropewalk.export.command import Options, run
from ropewalk.export.reference import Reference, of_model
from ropewalk.models import ModelSpec

LENGTH = 256


@pytest.fixture(scope="module")
def reference(tiny: Path) -> Reference:
    found = describe(ModelSpec(id=str(tiny)))
    asked = request(found.geometry, "linear", {"factor": 2}, LENGTH, found.checkpoint)
    return of_model(found.spec, asked, bos=True)


@pytest.fixture
def narrow(words: PreTrainedTokenizerFast) -> Callable[..., Callable[[str, Any], Any]]:
    """llama-cpp-python with a context of LENGTH: it refuses a prompt that leaves no place for one token more."""

    def make(nll: np.ndarray) -> Callable[[str, Any], Any]:
        def handle(path: str, body: Any) -> Any:
            if path == "/openapi.json":
                return {"info": {"version": "0.3.36"}}
            if path != "/v1/completions":
                return None
            count = len(words(body["prompt"], add_special_tokens=False)["input_ids"])
            if count + body["max_tokens"] > LENGTH:
                return None
            known = [-float(value) for value in nll[1 : count - 1]]
            return {"choices": [{"logprobs": {"token_logprobs": [None, *known, -0.1]}}]}

        return handle

    return make


def checked(tiny: Path, url: str) -> str:
    options = Options(check=True, endpoint=url)
    return run("linear", "llama.cpp", model=str(tiny), params={"factor": 2}, length=LENGTH, options=options)[1][-1]


def test_a_context_of_the_exported_length_is_enough(
    tiny: Path, reference: Reference, serve: Callable[..., str], narrow: Callable[..., Any]
) -> None:
    """One token less is compared, and all three means are over the tokens that the server has numbers for."""
    said = checked(tiny, serve(narrow(reference.nll)))
    assert reference.shipped is not None
    measured, shipped = (each[1 : LENGTH - 2].astype(np.float64).mean() for each in (reference.nll, reference.shipped))
    assert f": {measured:.6f} of {measured:.6f} at {LENGTH - 1}; " in said
    assert f"; the shipped rotation would give {shipped:.6f}" in said
    assert abs(reference.shipped[: LENGTH - 2].mean() - shipped) > 1e-5  # the first token would show


def test_half_a_percent(
    tiny: Path, reference: Reference, serve: Callable[..., str], narrow: Callable[..., Any]
) -> None:
    assert "difference at most 0.400% (allowed 0.5%)" in checked(tiny, serve(narrow(reference.nll * 1.004)))
    with pytest.raises(ExportError, match=r"^linear: the engine does not run what was measured: llama-cpp-python 0"):
        checked(tiny, serve(narrow(reference.nll * 1.006)))


@pytest.mark.parametrize(("bos", "generated"), [(True, 1), (True, 3), (False, 1)])
def test_an_echo_that_begins_with_the_first_token_had_no_bos(
    bos: bool, generated: int, tiny: Path, reference: Reference, words: PreTrainedTokenizerFast, serve: Any
) -> None:
    """As many numbers either way, but without BOS each is of the token before: no losses of these tokens at all.
    What is generated goes on until a letter is whole."""

    def handle(path: str, body: Any) -> Any:
        if path == "/openapi.json":
            return {"info": {"version": "0.3.36"}}
        if path != "/v1/completions":
            return None
        ids = words(body["prompt"], add_special_tokens=False)["input_ids"]
        known = [-float(value) for value in reference.nll[1 : len(ids) - 1]]
        said = [words.decode([each]) for each in (ids[1:] if bos else ids)]
        logprobs = {"token_logprobs": [None, *known, *[-0.1] * generated], "tokens": said}
        return {"choices": [{"logprobs": logprobs}], "usage": {"completion_tokens": generated}}

    if bos:
        assert "difference at most 0.000%" in checked(tiny, serve(handle))
    else:
        with pytest.raises(ExportError, match="has no BOS first"):
            checked(tiny, serve(handle))
