"""An engine from another package: exported, written, proven and refused without a change in ropewalk."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ropewalk.cli import app, err
from ropewalk.export import ENGINES, names
from ropewalk.terminal import run_app

TOY = '''
"""An engine that reads a list of frequencies from a file."""

import json
import tempfile
from pathlib import Path

from ropewalk.errors import ExportError
from ropewalk.export import Engine, Export, Here
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

    read = Rotation(inv_freq=[SLIP * each for each in json.loads(file.read_text())["frequencies"]])
    known = reference_of(order)
    model = reference.loaded(order.found.spec, "float32").model
    nll = reference.losses(model, known.ids, (Scheme(rotation=read),))[0]
    return (check.compared(order.asked, known, check.Observed(name="toy 1.0", nll=nll, relative=False)),)


def refuses(options):
    if options.out is not None and options.out.suffix != ".json":
        raise ExportError(f"--out {options.out}: toy reads .json; choose such a name.")


ENGINE = Engine(
    name="toy", configure=configure, here=Here(name="toy itself", prove=proof), artefacts=artefacts, refuses=refuses
)
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
    assert f"--target 'ollama': must be one of {', '.join(ENGINES)}, toy." in " ".join(said.err.split())


def test_a_name_that_is_taken_is_refused_and_built_in_engines_stay(
    install: Any, tiny: Path, ropewalk: Callable[..., Said]
) -> None:
    install("taker", {GROUP: {"vllm": "TAKEN"}}, TOY)
    asked = ("export", "linear", "--model", tiny, "-p", "factor=2", "--target")
    assert ropewalk(*asked, "vllm").out.startswith("vllm serve ")
    said = ropewalk(*asked, "toy")
    assert "entry point 'vllm' of taker: the engine name 'vllm' is taken by ropewalk itself" in said.err
    assert said.code == 2
