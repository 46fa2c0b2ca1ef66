"""An engine from another package: run, stored, reported, verified, exported, proven, diagnosed and refused without a
change in ropewalk."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from ropewalk.cli import app, err
from ropewalk.diagnosis import servers
from ropewalk.experiment.results import Run
from ropewalk.export import ENGINES, endpoint, names
from ropewalk.export.asking import Refused, Server
from ropewalk.report import write
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.terminal import run_app

TOY = '''
"""An engine that reads a list of frequencies from a file."""

import json
import tempfile
from pathlib import Path

from ropewalk.errors import ExportError
from ropewalk.export import Engine, Export, Here, Kind, Live
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme

SLIP = 1.0


def configure(asked):
    if asked.rotation.attention_factor != 1:
        raise ExportError(f"toy: has no attention factor, and {asked.method} needs one; the nearest is linear.")
    config = {"frequencies": asked.rotation.inv_freq.tolist(), "context": asked.length}
    return Export(engine="toy", fidelity="exact", config=config, notes=("toy reads no other file.",))


def artefacts(order):
    from ropewalk.export.directory import write_text
    from ropewalk.export.proof import prove

    export = configure(order.asked)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "toy.json"
        scratch.write_text(json.dumps(dict(export.config)))
        said = prove(order, export, scratch)
        if order.options.out is not None:
            write_text(scratch.read_text(), order.options.out, force=order.options.force)
    return export, said


def proof(order, export, file):
    """Runs the frequencies of the file: the engine itself, so to say."""
    from ropewalk.export import check, reference
    from ropewalk.export.proof import reference_of
    from ropewalk.models import load

    read = Rotation(inv_freq=[SLIP * each for each in json.loads(file.read_text())["frequencies"]])
    known = reference_of(order)
    model = load(order.found.spec, dtype="float32").model
    nll = reference.losses(model, known.ids, (Scheme(rotation=read),))[0]
    return (check.compared(order.asked, known, check.Observed(name="toy 1.0", nll=nll, relative=False)),)


def refuses(options):
    if options.out is not None and options.out.suffix != ".json":
        raise ExportError(f"--out {options.out}: toy reads .json; choose such a name.")


def losses(server, ids, text):
    from ropewalk.export.endpoint import observed

    return observed(server, "toy", server.ask("/toy", {"ids": ids})["logprobs"])


SERVED = Live(kinds=(Kind(name="toy-server", known=lambda server: server.has("/toy") is not None, losses=losses),))
ENGINE = Engine(
    name="toy", configure=configure, here=Here(name="toy itself", prove=proof), artefacts=artefacts, refuses=refuses
)
SERVING = Engine(name="toy", configure=configure, server=SERVED)
TAKEN = Engine(name="vllm", configure=configure, here=Here(name="toy itself", prove=proof))
'''
GROUP = "ropewalk.engines"


class Said(NamedTuple):
    """Exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def ropewalk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["ropewalk", *map(str, arguments)])
        code = run_app(app, err)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def export(install: Any, tiny: Path, ropewalk: Callable[..., Said]) -> Callable[..., Said]:
    """`ropewalk export METHOD --target toy` on a model."""
    install("toyengine", {GROUP: {"toy": "ENGINE"}}, TOY)
    model = ("--target", "toy", "--model", tiny, "--length", 256)
    return lambda method, *more: ropewalk("export", method, *model, *more)


def test_the_configuration_is_printed_written_and_proven(export: Any, tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    said = export("linear", "-p", "factor=2", "--out", out, "--check")
    assert said.code == 0, said.err
    printed = json.loads(said.out)
    assert printed["context"] == 256
    assert printed["frequencies"][0] == 0.5
    assert json.loads(out.read_text()) == printed
    first, note, proven = said.err.splitlines()
    assert first == "toy: exact, for 256 tokens."
    assert note == "toy reads no other file."
    assert proven.startswith("toy 1.0: mean NLL in nats/token, exported of measured (the patched model)")


def test_twin_an_engine_that_runs_something_else_is_not_written(
    export: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import toyengine  # installed by the fixture

    monkeypatch.setattr(toyengine, "SLIP", 1.01)
    said = export("linear", "-p", "factor=2", "--out", tmp_path / "toy.json", "--check")
    assert said.code == 2
    assert "linear: the engine does not run what was measured: toy 1.0" in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("yarn", "-p", "factor=2"), "toy: has no attention factor, and yarn needs one; the nearest is linear."),
        (("linear", "-p", "factor=2", "--out", "toy.txt"), "--out toy.txt: toy reads .json; choose such a name."),
        (
            ("linear", "-p", "factor=2", "--check", "--endpoint", "http://127.0.0.1:9"),
            "--endpoint: --target toy is checked with toy itself here; leave it out.",
        ),
        (
            ("linear", "-p", "factor=2", "--gguf", "x.gguf"),
            "--gguf x.gguf: is a file of llama.cpp, and --target toy reads none; leave it out.",
        ),
    ],
)
def test_refusals_are_its_own_and_the_commands(export: Any, arguments: tuple[str, ...], sentence: str) -> None:
    said = export(*arguments)
    assert (said.code, said.out) == (2, "")
    assert sentence in " ".join(said.err.split())


def test_help_and_refusals_name_it(export: Any) -> None:
    assert names() == (*ENGINES, "toy")
    said = export("linear", "--help")
    assert f"{', '.join(ENGINES)} or toy." in " ".join(said.out.replace("│", " ").split())
    said = export("linear", "--target", "ollama")
    assert f"--target 'ollama': must be one of {', '.join(ENGINES)}, toy; write one of these." in " ".join(
        said.err.split()
    )


def test_a_name_that_is_taken_is_refused_and_built_in_engines_stay(
    install: Any, tiny: Path, ropewalk: Callable[..., Said]
) -> None:
    install("taker", {GROUP: {"vllm": "TAKEN"}}, TOY)
    asked = ("export", "linear", "--model", tiny, "-p", "factor=2", "--target")
    assert ropewalk(*asked, "vllm").out.startswith("vllm serve ")
    said = ropewalk(*asked, "toy")
    assert "entry point 'vllm' of taker: the engine name 'vllm' is taken by ropewalk itself" in said.err
    assert said.code == 2


@pytest.fixture
def measured(install: Any, experiment: Any, ropewalk: Callable[..., Said], tmp_path: Path) -> Path:
    """A finished run, made by the command with the engine's package installed."""
    install("toyengine", {GROUP: {"toy": "ENGINE"}}, TOY)
    raw = experiment(metrics={"perplexity": {}}, methods={"linear": {"factor": 2}, "ntk_aware": {"factor": 2}})
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    said = ropewalk("run", tmp_path / "e.yaml", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    return tmp_path / "run"


def test_what_a_run_recommends_is_reported_exported_and_proven_by_its_stored_losses(
    measured: Path, ropewalk: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = ropewalk("verify", measured, "--cells", 2)
    assert (verified.code, "2 passes" in verified.out + verified.err) == (0, True), verified
    chosen = ropewalk("recommend", measured, "--length", 256, "--target", "toy")
    assert (chosen.code, "--target toy --length 256" in " ".join(chosen.out.split())) == (0, True), chosen
    monkeypatch.setattr(write, "png", lambda *_: b"")  # drawing takes seconds
    page, text, *_ = write.report(measured, targets=("toy",))
    assert "--target toy --length 256" in text.read_text(encoding="utf-8")
    assert "--target toy --length 256" in page.read_text(encoding="utf-8")
    out = tmp_path / "toy.json"
    said = ropewalk("export", measured, "--target", "toy", "--length", 256, "--out", out, "--check")
    assert said.code == 0, said.err
    assert f"exported of measured (stored in {measured})" in said.err.replace("\n", "")
    choice = json.loads(ropewalk("recommend", measured, "--length", 256, "--json").out)["choice"]
    row = next(row for row in Run.read(measured).rows() if row["method"] == choice["method"] and row["length"] == 256)
    exported = Scheme(rotation=Rotation(inv_freq=np.array(json.loads(out.read_text())["frequencies"])))
    assert (choice["method"] != "none", exported.fingerprint) == (True, row["fingerprint"])


def test_a_server_of_its_own_is_found_out_and_asked(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install("toyengine", {GROUP: {"toy": "SERVING"}}, TOY)
    asked = []

    def answer(server: Server, path: str, body: Any = None) -> Any:
        if path != "/toy":
            raise Refused(path)
        asked.append(body)
        return {"logprobs": [-1.0, -2.0]}

    monkeypatch.setattr(Server, "ask", answer)
    server = endpoint.server_at("http://127.0.0.1:9", 3)
    assert servers.kind_of(server) == "toy-server"
    found = servers.losses(server, "toy-server", np.array([5, 6, 7], dtype=np.int32), str)
    assert (found.name, found.nll.tolist()) == ("toy at http://127.0.0.1:9", [1.0, 2.0])
    assert asked[-1] == {"ids": [5, 6, 7]}
