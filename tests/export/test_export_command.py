"""`ropewalk export` from a method and from a run: directories, proofs, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ropewalk.errors import ExportError, RopewalkError
from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.results import Run
from ropewalk.export import ENGINES, check, directory, request
from ropewalk.export.checkpoint import describe
from ropewalk.export.command import Options, run
from ropewalk.export.reference import of_model, of_run
from ropewalk.models import ModelSpec, read_geometry

METHODS = {
    "linear": {"factor": 2},
    "ntk_aware": {"factor": 2},
    "dynamic_ntk": {"factor": 2},
    "yarn": {"factor": [2, "auto"]},
    "llama3": {"factor": 2},
    "longrope": {"factor": 2},
    "mrrope": {"factor": 2},
}


@pytest.fixture(scope="session")
def measured(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of seven methods at two lengths."""
    out = tmp_path_factory.mktemp("export-run") / "run"
    raw = base_experiment | {"methods": METHODS, "metrics": {"perplexity": {}}}
    sweep(ask(schema.parse(raw, "test")), out)
    return out


def exported(
    method: str, model: Path, options: Options, length: int = 256, **params: Any
) -> tuple[str, tuple[str, ...]]:
    return run(method, "hf", model=str(model), params=params, length=length, options=options)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_directory_has_the_rotation_and_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    before = digests(tiny)
    out = tmp_path / "out"
    text, notes = exported("yarn", tiny, Options(out=out), factor=2)
    assert json.loads(text)["rope_parameters"]["rope_type"] == "yarn"
    assert notes[0] == "hf: exact, for 256 tokens."
    found = describe(ModelSpec(id=str(tiny)))
    asked = request(found.geometry, "yarn", {"factor": 2}, 256, found.checkpoint)
    again = request(read_geometry(ModelSpec(id=str(out))), "none", {}, 256, found.checkpoint)
    assert again.rotation.fingerprint == asked.rotation.fingerprint
    assert os.path.samefile(out / "model.safetensors", tiny / "model.safetensors")
    after = digests(out)
    assert {name for name in before if before[name] != after[name]} == {"config.json"}
    assert digests(tiny) == before
    assert list(tmp_path.iterdir()) == [out]


def test_every_rotation_and_length_of_a_run(measured: Path, tiny: Path, tmp_path: Path) -> None:
    """The exported directory under stock transformers against the losses that the run stored."""
    found = describe(ModelSpec(id=str(tiny)))
    cells = {(row["method"], json.dumps(row["params"]), row["length"]) for row in Run.open(measured).rows()}
    seen = 0
    for number, (method, params, length) in enumerate(sorted(cells)):
        if method == "truncate":
            continue
        asked = request(found.geometry, method, json.loads(params), length, found.checkpoint)
        reference = of_run(measured, asked)
        out = tmp_path / str(number)
        export = ENGINES["hf"].configure(asked)
        directory.write_directory(found, asked, export, out, force=False, proof=lambda _: None)
        engine = check.run_transformers(out, reference)
        assert "per token (root mean square" in check.compared(asked, reference, engine)
        np.testing.assert_allclose(engine.nll, reference.nll, atol=2e-4)
        seen += 1
    assert seen == 2 * 9 - 1  # yarn with factor auto is yarn with factor 2 at 256


def test_check_of_a_method_and_of_a_run(measured: Path, tiny: Path, tmp_path: Path) -> None:
    _, notes = exported("linear", tiny, Options(check=True), factor=2)
    assert notes[-1].startswith("transformers 5.")
    assert "(the patched model), on the first tokens of" in notes[-1]
    assert "per token (root mean square; allowed 6.3e-05)" in notes[-1]
    _, notes = run(str(measured), "hf", params={}, length=256, options=Options(check=True, out=tmp_path / "out"))
    assert f"recommended by {measured} for 256 tokens" in notes[0]
    said = next(note for note in notes if "mean NLL" in note)
    assert f"(stored in {measured})" in said
    assert " at 192, " in said
    assert (tmp_path / "out" / "config.json").is_file()


def test_twin_a_directory_that_lost_its_keys_fails_and_is_not_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "patched_config", lambda raw, change: dict(raw))
    with pytest.raises(ExportError, match=r"^linear: the written config\.json reads back as rotation"):
        exported("linear", tiny, Options(out=tmp_path / "out"), factor=2)
    monkeypatch.setattr(directory, "read_back", lambda *_: None)
    with pytest.raises(ExportError, match="linear: the engine does not run what was measured: transformers 5"):
        exported("linear", tiny, Options(out=tmp_path / "out", check=True), factor=2)
    assert list(tmp_path.iterdir()) == []


def test_existing_paths(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="file exists; choose another --out, or --force to replace it"):
        exported("linear", tiny, Options(out=tmp_path / "file"), factor=2)
    with pytest.raises(ExportError, match="is no model directory, so --force does not replace it"):
        exported("linear", tiny, Options(out=tmp_path / "file", force=True), factor=2)
    exported("linear", tiny, Options(out=tmp_path / "model"), factor=2)
    exported("yarn", tiny, Options(out=tmp_path / "model", force=True), factor=2)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["rope_parameters"]["rope_type"] == "yarn"
    with pytest.raises(ExportError, match="lies in, around or on the model itself"):
        exported("linear", tiny, Options(out=tiny / "inside", force=True), factor=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]


@pytest.mark.parametrize("target", ["hf", "vllm"])
def test_a_place_below_a_file(target: str, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "out"
    with pytest.raises(ExportError) as refusal:
        run("linear", target, model=str(tiny), params={"factor": 2}, length=256, options=Options(out=out))
    assert str(refusal.value) == f"{out} cannot be written (File exists); choose another --out, or make room."
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_full_disk(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(directory, "_place", full)
    with pytest.raises(
        ExportError, match=r"out cannot be written \(No space left on device\); choose another --out, or"
    ):
        exported("linear", tiny, Options(out=tmp_path / "out"), factor=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "options", "length", "sentence"),
    [
        (
            "ollama",
            Options(),
            256,
            "--target 'ollama': must be one of hf, vllm, sglang, llama.cpp, mlx; write one of these.",
        ),
        (
            "vllm",
            Options(gguf=Path("m.gguf")),
            256,
            "--gguf m.gguf: is a file of llama.cpp, and --target vllm reads none",
        ),
        (
            "vllm",
            Options(check=True),
            256,
            "--check: vllm does not run inside ropewalk; start it with the exported line",
        ),
        ("vllm", Options(endpoint="http://x"), 256, "--endpoint http://x: is only asked to --check; add that"),
        ("hf", Options(endpoint="http://x", check=True), 256, "--target hf is checked with transformers here"),
        ("llama.cpp", Options(check=True), 256, "--check: llama.cpp runs a file, and none was named; give --gguf FILE"),
        ("llama.cpp", Options(gguf=Path("no.gguf")), 256, "--gguf no.gguf: there is no such file"),
        ("vllm", Options(), 2**31, "--length 2147483648: no engine holds a context beyond 2147483647 tokens"),
    ],
)
def test_arguments_that_make_no_sense(target: str, options: Options, length: int, sentence: str, tiny: Path) -> None:
    with pytest.raises(ExportError) as refusal:
        run("linear", target, model=str(tiny), params={"factor": 2}, length=length, options=options)
    assert sentence in str(refusal.value)


def test_runs_that_cannot_be_exported(measured: Path, tmp_path: Path) -> None:
    for source, params, length, sentence in (
        ("yarn", {}, 256, "'yarn' is no run directory; give --model as well to export a method by its name."),
        (str(measured), {"factor": 2}, 256, "-p factor: a run's recommendation has its own parameters; leave -p out."),
        (str(measured), {}, None, "a run recommends for a length; give --length, in tokens."),
        (str(tmp_path), {}, 256, f"{tmp_path}: holds no run (no run.sqlite); name a directory made by `ropewalk run`."),
    ):
        with pytest.raises(RopewalkError) as refusal:
            run(source, "hf", params=params, length=length, options=Options())
        assert sentence in str(refusal.value)


@pytest.fixture
def vllm_of(measured: Path) -> Callable[[Any, Any], Any]:
    """vLLM's answers with losses that are given; checks that the ids are the stored ones."""

    def make(ids: list[int], nll: np.ndarray) -> Callable[[str, Any], Any]:
        def handle(path: str, body: Any) -> Any:
            if path == "/version":
                return {"version": "0.33.0"}
            if path == "/v1/models":
                return {"data": [{"id": "m"}]}
            assert body["prompt"] == ids
            entries = [{str(t): {"logprob": -float(x)}} for t, x in zip(ids[1:], nll, strict=True)]
            return {"choices": [{"prompt_logprobs": [None, *entries]}]}

        return handle

    return make


def test_a_server_that_runs_what_was_measured_and_one_that_does_not(
    measured: Path, serve: Callable[[Any], str], vllm_of: Callable[..., Any]
) -> None:
    """The tokens and losses are those that the run stored, the last aside, whose place the server needs for a token of
    its own; a server with the shipped rotation is found out."""
    _, notes = run(str(measured), "vllm", params={}, length=256, options=Options())
    found = describe(ModelSpec.parse(Run.open(measured).meta["identity"]["experiment"]["model"]))
    label = notes[0].split(",")[0]
    row = next(r for r in Run.open(measured).labelled_rows() if r["label"] == label and r["length"] == 256)
    asked = request(found.geometry, row["method"], row["params"], 256, found.checkpoint)
    reference = of_run(measured, asked)
    url = serve(vllm_of(reference.ids[:-1].tolist(), reference.nll[:-1] + 0.001))
    _, notes = run(str(measured), "vllm", params={}, length=256, options=Options(check=True, endpoint=url))
    assert f"vLLM 0.33.0 at {url}: mean NLL" in notes[-1]
    assert reference.shipped is not None
    url = serve(vllm_of(reference.ids[:-1].tolist(), reference.shipped[:-1] + 1))
    with pytest.raises(ExportError, match="the engine does not run what was measured: vLLM"):
        run(str(measured), "vllm", params={}, length=256, options=Options(check=True, endpoint=url))


def test_sglang_is_sent_a_prompt_that_it_takes(measured: Path, serve: Callable[[Any], str]) -> None:
    """It answers 400 to more than context_length - 7 tokens."""
    sent: list[int] = []

    def handle(path: str, body: Any) -> Any:
        if path != "/generate":
            return {"version": "0.5.23"}
        sent.append(len(body["input_ids"]))
        return {"meta_info": {"input_token_logprobs": [[-1.0, token, None] for token in body["input_ids"]]}}

    with pytest.raises(ExportError, match="the engine does not run what was measured: SGLang"):
        run(str(measured), "sglang", params={}, length=256, options=Options(check=True, endpoint=serve(handle)))
    assert sent == [249]


def test_reference_of_a_model_puts_bos_first_where_asked(tiny: Path) -> None:
    """Its tokenizer has a BOS that its default encoding leaves out."""
    found = describe(ModelSpec(id=str(tiny)))
    asked = request(found.geometry, "linear", {"factor": 2}, 64, found.checkpoint)
    plain, with_bos = of_model(found.spec, asked), of_model(found.spec, asked, bos=True)
    assert (len(plain.ids), len(plain.nll), plain.lengths) == (64, 63, (64,))
    assert with_bos.ids[1:].tolist() == plain.ids[:-1].tolist()
