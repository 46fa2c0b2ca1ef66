"""Every fault put into a live server of stock transformers is named, and a healthy one is not accused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import injected
import pytest
import torch
from faulty_servers import logprobs, rebuilt, serving

import checkpoints
from ropewalk.diagnosis import command, rounding, servers
from ropewalk.diagnosis.library import library
from ropewalk.diagnosis.match import match
from ropewalk.diagnosis.score import losses
from ropewalk.errors import ExportError
from ropewalk.export import endpoint
from ropewalk.export.checkpoint import describe
from ropewalk.export.request import request
from ropewalk.models import ModelSpec, load

SERVED = (injected.LLAMA, injected.GEMMA, injected.PHI, injected.MINISTRAL)


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each, with a tokenizer that puts BOS first."""
    words = checkpoints.tokenizer(bos=True)
    return {each.name: checkpoints.save(tmp_path_factory.mktemp("served"), each.make(), words) for each in SERVED}


@pytest.mark.parametrize("served", SERVED, ids=lambda each: each.name)
def test_every_fault_is_named(served: injected.Served, directories: dict[str, Path]) -> None:
    spec = ModelSpec(id=str(directories[served.name]))
    loaded, found = load(spec, dtype="float32"), describe(spec)
    ids, bos = command.tokens(loaded.tokenizer, None, served.length)
    asked = request(found.geometry, served.method, served.params, len(ids), found.checkpoint)
    hypotheses = library(asked, bos=bos, given=served.context + 64)
    local = losses(loaded, ids, hypotheses)
    named = {}
    for name, model, change in injected.faults(served, served.make(), bos=True):
        with serving(injected.answers(model, change)) as url:
            server = endpoint.server_at(url, len(ids))
            engine = servers.losses(server, servers.kind_of(server), ids, loaded.tokenizer.decode)
        result = match(engine.nll, local)
        named[name] = None if result.found is None else hypotheses[result.found].name
    assert named == {name: name for name in named}
    assert len(named) >= 15


def options(served: injected.Served, directories: dict[str, Path], **changes: object) -> command.Options:
    values = {"model": str(directories[served.name]), "method": served.method, "params": served.params, "length": 300}
    return command.Options(**{**values, **changes})


def test_a_server_from_end_to_end(directories: dict[str, Path]) -> None:
    served = injected.LLAMA
    with serving(injected.answers(rebuilt(served.make(), served.bare), lambda ids: ids)) as url:
        found = command.run(url, options(served, directories))
    assert isinstance(found, command.Diagnosis)
    assert (found.name, found.healthy) == ("unscaled", False)
    assert "runs unscaled: its rope keys did not reach the model" in found.sentence
    assert found.plain()["hypotheses"][0]["name"] == "unscaled"
    assert any(line.startswith("unscaled ") for line in found.lines())


def test_the_line_that_serves_what_was_asked_for(directories: dict[str, Path]) -> None:
    """Of a server that answers as vLLM does."""
    served = injected.LLAMA
    model = rebuilt(served.make(), served.bare)

    def handle(path: str, body: Any) -> Any:
        if path == "/version":
            return {"version": "0.32.0"}
        if path == "/v1/models":
            return {"data": [{"id": "served"}]}
        ids = body["prompt"]
        known = zip(ids[1:], logprobs(model, ids)[1:], strict=True)
        return {"choices": [{"prompt_logprobs": [None, *({str(token): {"logprob": each}} for token, each in known)]}]}

    with serving(handle) as url:
        found = command.run(url, options(served, directories))
    assert isinstance(found, command.Diagnosis)
    assert found.name == "unscaled"
    assert f"vLLM 0.32.0 at {url} runs unscaled: its rope keys did not reach the model" in found.sentence
    line = found.sentence.partition("; expected line: ")[2].removesuffix(".")
    words = shlex.split(line)
    rope = json.loads(words[words.index("--hf-overrides") + 1])["rope_parameters"]
    assert (words[:2], words[2]) == (["vllm", "serve"], str(directories[served.name]))
    assert (rope["rope_type"], rope["attention_factor"], len(rope["long_factor"])) == ("longrope", 1.35, 16)


def test_roundings_are_no_fault(directories: dict[str, Path]) -> None:
    """Weights in bfloat16, and in 8 bits a row, under the rotation that was asked for."""
    served = injected.GEMMA
    for quantised in (lambda w: w.bfloat16().float(), eight_bits):
        model = rebuilt(served.make(), served.placed(served.rope))
        for parameter in model.parameters():
            parameter.data = quantised(parameter.data)
        with serving(injected.answers(model, lambda ids: ids)) as url:
            found = command.run(url, options(served, directories))
        assert isinstance(found, command.Diagnosis)
        assert found.match.apart[0] is not None
        assert found.match.apart[0].rms > 1e-3
        assert found.healthy, found.lines()


def eight_bits(weight: torch.Tensor) -> torch.Tensor:
    if weight.ndim < 2:
        return weight
    scale = weight.abs().amax(-1, keepdim=True) / 127
    return (weight / scale).round() * scale


def test_a_model_that_magnifies_roundings_is_no_fault_either(directories: dict[str, Path]) -> None:
    """Weights of 8 bits leave more than engines may: what they would leave here is measured, and the fault is named
    beneath them too; another attention factor, which does not grow either, stays none."""
    served, called = injected.LLAMA, {}
    faults = {"as asked": {}, "truncate": {"truncate": False}, "another factor": {"attention_factor": 1.485}}
    for name, more in faults.items():
        model = rebuilt(served.make(), served.rope | more)
        for parameter in model.parameters() if name != "another factor" else ():
            parameter.data = eight_bits(parameter.data)
        with serving(injected.answers(model, lambda ids: ids)) as url:
            called[name] = command.run(url, options(served, directories, length=512))
        assert isinstance(called[name], command.Diagnosis)
    assert {name: found.name for name, found in called.items()} == {
        "as asked": "as asked",
        "truncate": "truncate",
        "another factor": None,
    }
    found = called["as asked"]
    assert found.healthy
    assert found.match.apart[0].rms > 0.2
    assert found.rounding == pytest.approx(found.match.apart[0].rms, rel=0.3)  # which is of other roundings
    would = f"; weights of 8 bits would leave {found.rounding:.2g}"
    assert any(f"nats/token off (root mean square{would})" in line for line in found.lines())
    assert "; weights of 8 bits would leave " in called["another factor"].sentence
    assert found.plain()["rounding"] == found.rounding


def test_rounding_leaves_the_model_as_it_was(directories: dict[str, Path]) -> None:
    model = load(ModelSpec(id=str(directories[injected.LLAMA.name])), dtype="float32").model
    before = {name: (id(each), each.clone()) for name, each in model.named_parameters()}
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        own = model(input_ids=ids).logits
        with rounding.eight_bits(model):
            other = model(input_ids=ids).logits
        with pytest.raises(IndexError), rounding.eight_bits(model):
            model(input_ids=ids + 10**6)
        assert torch.equal(model(input_ids=ids).logits, own)
    assert (other - own).abs().max() > 0.01
    assert all(id(each) == before[name][0] for name, each in model.named_parameters())
    assert all(torch.equal(each, before[name][1]) for name, each in model.named_parameters())


def test_a_rotation_that_is_no_hypothesis(directories: dict[str, Path]) -> None:
    served = injected.LLAMA
    other = served.bare | {"rope_type": "linear", "factor": 3.0}
    with serving(injected.answers(rebuilt(served.make(), other), lambda ids: ids)) as url:
        found = command.run(url, options(served, directories))
    assert isinstance(found, command.Diagnosis)
    assert found.name is None
    assert "runs none of the " in found.sentence


def test_two_servers_part_where_their_rotations_do(directories: dict[str, Path]) -> None:
    served = injected.LLAMA
    asked = rebuilt(served.make(), served.rope)
    forgets = next(model for name, model in injected._contexts(served, served.make()) if name == "sliding window 256")
    with (
        serving(injected.answers(asked, lambda ids: ids)) as one,
        serving(injected.answers(forgets, lambda ids: ids)) as other,
    ):
        apart = command.run(one, options(served, directories, length=512, against=other))
        same = command.run(one, options(served, directories, length=512, against=one))
    assert isinstance(apart, command.Between)
    assert isinstance(same, command.Between)
    assert apart.part == 257
    assert apart.ranges[-1].rms > 0.5
    assert same.part is None
    assert "are the same to float32" in same.sentence


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"choices": [{"text": "x", "logprobs": None}]}, "gave no log-probabilities"),
        ({"choices": []}, "gave no log-probabilities"),
        (
            {"choices": [{"logprobs": {"token_logprobs": [None] + [-1.0] * 40}}]},
            "log-probabilities that can be compared",
        ),
        ({"choices": [{"logprobs": {"token_logprobs": [None] + [-1.0] * 900}}]}, "gave no log-probabilities"),
        ({"choices": [{"logprobs": {"token_logprobs": [None, float("-inf")] + [-1.0] * 299}}]}, "is no finite number"),
        ({"choices": [{"logprobs": {"token_logprobs": [None, *["-1"] * 300]}}]}, "gave no log-probabilities"),
    ],
)
def test_a_server_without_the_numbers(answer: object, said: str, directories: dict[str, Path]) -> None:
    def handle(path: str, body: object) -> object:
        return {"data": [{"id": "x"}]} if path == "/v1/models" else answer if path == "/v1/completions" else None

    with serving(handle) as url, pytest.raises(ExportError, match=said):
        command.run(url, options(injected.LLAMA, directories))


def test_arguments(directories: dict[str, Path]) -> None:
    name = str(directories[injected.LLAMA.name])
    with pytest.raises(ExportError, match="give --model"):
        command.run("http://127.0.0.1:9", command.Options(params={}))
    with pytest.raises(ExportError, match="--target 'vlm': must be one of vllm, sglang"):
        command.run("http://127.0.0.1:9", command.Options(params={}, model=name, target="vlm"))
    with pytest.raises(ExportError, match="--against: is for servers"):
        command.run(name, command.Options(params={}, against="http://127.0.0.1:9"))
