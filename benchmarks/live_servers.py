"""Servers of real engines on loopback, from an environment of their own, which end with their block."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 600.0
QUIET = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


def llama_cpp(python: Path, file: Path, length: int, *flags: str) -> list[str]:
    """llama-cpp-python's server of a file."""
    options = ["--model", str(file), "--n_ctx", str(length + 1), "--logits_all", "true", *flags]
    return [str(python), "-m", "llama_cpp.server", "--host", "127.0.0.1", *options]


def vllm(python: Path, directory: Path, length: int, overrides: dict[str, Any]) -> list[str]:
    """vLLM's server of a directory, float32."""
    given = ["--hf-overrides", json.dumps(overrides)] if overrides else []
    options = ["--model", str(directory), "--dtype", "float32", "--enforce-eager", "--max-model-len", str(length + 1)]
    return [str(python), "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", *options, *given]


@contextmanager
def running(command: Sequence[str]) -> Iterator[str]:
    """The address of a server once it answers.

    Raises:
        RuntimeError: it ended, or took longer than START_S, with what it said.
    """
    port, environment = _free_port(), {**os.environ, **QUIET}
    environment.pop("PYTHONPATH", None)  # its packages are others
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process.poll)
            yield url
        except RuntimeError as wrong:
            log.seek(0)
            raise RuntimeError(f"{wrong}: {log.read()[-20000:]}") from wrong
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def vllm_forks(python: Path) -> Iterator[Forks]:
    """Forks of one process that has vLLM imported: `running` for its servers."""
    environment = {key: value for key, value in {**os.environ, **QUIET}.items() if key != "PYTHONPATH"}
    script = Path(__file__).with_name("vllm_forked.py")
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [str(python), str(script)], stdin=-1, stdout=-1, stderr=log, env=environment, text=True, bufsize=1
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Forks(process=process, log=log)
        finally:
            process.stdin.close()
            process.terminate()
            process.wait(timeout=30)


@dataclass(frozen=True, kw_only=True)
class Forks:
    """A process that forks a server per line of arguments."""

    process: subprocess.Popen[str]
    log: Any

    @contextmanager
    def running(self, command: Sequence[str]) -> Iterator[str]:
        """As the function of that name; of the command only what follows its module counts."""
        port = _free_port()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([*command[3:], "--port", str(port)]) + "\n")
        self.process.stdin.flush()
        fork = self._fork()
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, lambda: None if _alive(fork) else 1)
            yield url
        except RuntimeError as wrong:
            self.log.seek(0)
            raise RuntimeError(f"{wrong}: {self.log.read()[-20000:]}") from wrong
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(fork, signal.SIGKILL)  # nothing of it is kept

    def _fork(self) -> int:
        """Its process id, once vLLM is imported."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        if said == "ready":
            return self._fork()
        if not said:
            self.log.seek(0)
            raise SystemExit(f"vLLM cannot be imported: {self.log.read()[-3000:]}")
        return int(said)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _wait(url: str, ended: Callable[[], int | None]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if (status := ended()) is not None:
            raise RuntimeError(f"the server ended with {status}")
        try:
            with urllib.request.urlopen(f"{url}/v1/models", timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
    raise RuntimeError(f"the server did not start in {START_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
