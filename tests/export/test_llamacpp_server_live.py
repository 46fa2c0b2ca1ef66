"""llama-cpp-python's own server, live: `--check --endpoint` on files of strand, of which it runs one rotation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf_models
import pytest

from ropewalk.errors import ExportError
from ropewalk.export.command import Options, run
from ropewalk.models import ModelSpec, builtin, load

pytest.importorskip("llama_cpp.server.app", reason="llama-cpp-python[server] is not installed", exc_type=ImportError)

LENGTH = 1024
"""Four windows, tokens."""

MAIN = """
import os, runpy, sys, threading

def end_with_parent():
    sys.stdin.read()
    os._exit(0)

threading.Thread(target=end_with_parent, daemon=True).start()
runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
"""
"""`python -m llama_cpp.server`, ended by the closing of its input: whoever kills the tests kills it too."""

YARN = {"factor": 4}
START_S = 60.0


def started(file: Path, log: Path) -> subprocess.Popen[bytes]:
    """A server of `file` on a free port."""
    command = [sys.executable, "-c", MAIN, "--model", str(file), "--n_ctx", str(LENGTH), "--logits_all", "true"]
    free = os.environ | {"HOST": "127.0.0.1", "PORT": "0"}
    with log.open("w") as said:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT, env=free)


@contextmanager
def serving(file: Path, log: Path) -> Iterator[str]:
    """The address of a server, which ends with the block."""
    with started(file, log) as process:
        try:
            yield address(process, log)
        finally:
            process.kill()


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """What uvicorn prints once it listens."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"running on (http://\S+)", log.read_text(errors="replace"))
        if found is not None:
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="module")
def strand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """strand as a GGUF file, whose tokenizer has a BOS, which the package's own has not."""
    vocabulary = Path(str(builtin.locate("strand", weights=False)[0])) / "tokenizer.json"
    model = load(ModelSpec(id="strand"), dtype="float32").model
    return gguf_models.write(tmp_path_factory.mktemp("served") / "strand.gguf", model, tokenizer_json=vocabulary)


@pytest.fixture(scope="module")
def rewritten(strand: Path) -> Path:
    """The file with yarn in it."""
    out = strand.with_name("yarn.gguf")
    run("yarn", "llama.cpp", model=str(strand), params=YARN, length=LENGTH, options=Options(gguf=strand, out=out))
    return out


@pytest.fixture(scope="module")
def url(rewritten: Path) -> Iterator[str]:
    """Of a server of that."""
    with serving(rewritten, rewritten.with_suffix(".log")) as found:
        yield found


def means(said: str) -> tuple[float, float]:
    """Of the engine and of the patched model, nats/token."""
    found = re.search(rf"(\d\.\d+) of (\d\.\d+) at {LENGTH - 1};", said)
    assert found is not None, said
    return float(found[1]), float(found[2])


def test_server_of_the_rewritten_file_agrees(url: str, strand: Path, rewritten: Path) -> None:
    options = Options(gguf=rewritten, check=True, endpoint=url)
    _, notes = run("yarn", "llama.cpp", model=str(strand), params=YARN, length=LENGTH, options=options)
    print(notes[-1])
    assert f" at {url}: mean NLL in nats/token, exported of measured (the patched model)" in notes[-1]
    there, here = means(notes[-1])
    assert there == pytest.approx(here, rel=5e-3)
    shipped = re.search(r"the shipped rotation would give (\d\.\d+)\.$", notes[-1])
    assert shipped is not None
    assert abs(float(shipped[1]) / here - 1) > 0.1


OTHERS = {"linear": {"factor": 4}, "longrope": {"factor": 4}}


@pytest.mark.parametrize("method", OTHERS)
def test_server_of_another_rotation_does_not(method: str, url: str, strand: Path, tmp_path: Path) -> None:
    """The server runs yarn, whatever is asked; the file that was to be written is not."""
    options = Options(gguf=strand, out=tmp_path / "out.gguf", check=True, endpoint=url)
    with pytest.raises(ExportError, match=f"^{method}: the engine does not run what was measured: ") as refusal:
        run(method, "llama.cpp", model=str(strand), params=OTHERS[method], length=LENGTH, options=options)
    print(refusal.value)
    there, here = means(str(refusal.value))
    assert abs(there / here - 1) > 5e-3
    assert "look at its rope settings" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_server_without_the_rotation(strand: Path, tmp_path: Path) -> None:
    """The shipped file: what is exported is not there, and what ships is."""
    with serving(strand, tmp_path / "log") as url:
        options = Options(check=True, endpoint=url)
        with pytest.raises(ExportError, match=r"^yarn: the engine does not run what was measured: "):
            run("yarn", "llama.cpp", model=str(strand), params=YARN, length=LENGTH, options=options)
        _, notes = run("none", "llama.cpp", model=str(strand), params={}, length=LENGTH, options=options)
    print(notes[-1])
    there, here = means(notes[-1])
    assert there == pytest.approx(here, rel=5e-3)


def test_server_ends_with_the_tests(strand: Path, tmp_path: Path) -> None:
    """Where they are killed no `finally` runs, but the pipe closes."""
    with started(strand, tmp_path / "log") as process:
        try:
            address(process, tmp_path / "log")
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
