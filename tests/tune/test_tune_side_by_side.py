"""A tuning over several processes finds what one process finds, to the bit, whoever dies on the way."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
from typer.testing import CliRunner

from ropewalk.cli import app
from ropewalk.errors import ExperimentError, ModelError, StoreError
from ropewalk.execution import processes
from ropewalk.execution.dispatch import Died, Dispatcher, Reply
from ropewalk.execution.executor import Fleet
from ropewalk.execution.lock import locked
from ropewalk.experiment import schema
from ropewalk.tuning import portions, side_by_side
from ropewalk.tuning.asked import Request, Way
from ropewalk.tuning.portions import Descend, Measure, TuningLease
from ropewalk.tuning.run import tune

REQUEST = Request(length=256, steps=4, repeats=2, seed=4)
TWO = Fleet(workers=2)


def content(out: Path) -> dict[str, Any]:
    """Every file, but for the time that steps took."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file() and path.name != "run.lock"):
        name = str(path.relative_to(out))
        if name.startswith("seed-"):
            found[name] = {key: each.tobytes() for key, each in safetensors.numpy.load(path.read_bytes()).items()}
        elif name == "named.json":
            found[name] = json.loads(path.read_text())
        elif name not in ("tune.json", "tune.md"):
            found[name] = path.read_bytes()
    return found


def plain(result: Any) -> Any:
    """A result without the time that it took, and the commit of a checkout that is worked on."""
    without = {name: value for name, value in result.items() if name not in ("winner", "seeds", "versions")}
    return without | {"seeds": [{**each, "wall_s": 0, "made_by": ""} for each in result["seeds"]]}


@pytest.fixture(scope="module")
def alone(asked: schema.Experiment, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tune(asked, REQUEST, tmp_path_factory.mktemp("alone") / "out")


class Scripted:
    """A transport of two workers of this process; `script` says who dies over what, before or after it is done."""

    slots = 2

    def __init__(self, job: Any, script: Any) -> None:
        self.script, self.count = script, 0
        self.leases: dict[int, TuningLease] = {}
        self.calls: dict[int, deque[Any]] = {}
        self.stack, self.job = contextlib.ExitStack(), job
        self.ran: list[tuple[int, Any]] = []

    def start(self, slot: int) -> int:
        self.count += 1
        self.leases[self.count] = self.stack.enter_context(self.job.leased())
        self.calls[self.count] = deque([("opening", ())])
        return self.count

    def name(self, worker: int) -> str:
        return f"worker {worker}"

    def send(self, worker: int, method: str, *args: Any) -> None:
        self.calls[worker].append((method, args))

    def wait(self, timeout_s: float) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        for worker, calls in list(self.calls.items()):
            if not calls:
                continue
            method, args = calls.popleft()
            if method == "run":
                self.ran.append((worker, args[0].tasks[0]))
            value = getattr(self.leases[worker], method)(*args)
            value, dies = self.script(worker, method, args, value)
            if dies:
                del self.calls[worker]
            found.append((worker, Died("killed by signal SIGKILL") if dies else Reply(value)))
        return found

    def kill(self, worker: int) -> None:
        del self.calls[worker]

    def clock(self) -> float:
        return time.monotonic()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Side by side in this process, a step at a time."""

    def make(script: Any) -> list[Scripted]:
        made: list[Scripted] = []

        @contextlib.contextmanager
        def crewed(job: Any, fleet: Fleet) -> Any:
            made.append(Scripted(job, script))
            with made[0].stack:
                yield Dispatcher(made[0], fleet.patience_s)

        monkeypatch.setattr(processes, "crewed", crewed)
        monkeypatch.setattr(portions, "STRETCH_S", 0.0)
        return made

    return make


def test_seeds_run_side_by_side_and_one_killed_goes_on_from_its_last_step(
    alone: Any, asked: schema.Experiment, tmp_path: Path, scripted: Any
) -> None:
    """The worker dies after the step is in the file, and before it could say so."""
    died: list[int] = []

    def script(worker: int, method: str, args: Any, value: Any) -> Any:
        dies = method == "run" and args[0].tasks == (Descend(Way(near=None, seed=4), 1),) and not died
        died.extend([worker] * dies)
        return value, dies

    made = scripted(script)
    found = tune(asked, REQUEST, tmp_path / "out", fleet=TWO)
    assert plain(found.result) == plain(alone.result)
    assert content(found.directory) == content(alone.directory)
    ran = [(worker, task) for worker, task in made[0].ran if isinstance(task, Descend)]
    assert [task.done for _, task in ran if task.way.seed == 4] == [0, 1, 1, 3]  # what it had done was not done again
    assert [task.done for _, task in ran if task.way.seed == 5] == [0, 1, 2, 3]
    assert len({worker for worker, _ in ran}) == 3
    assert sum(isinstance(task, Measure) for _, task in made[0].ran) >= 2


def test_a_stretch_that_kills_two_workers_ends_the_command_and_the_same_goes_on(
    alone: Any, asked: schema.Experiment, tmp_path: Path, scripted: Any
) -> None:
    def script(worker: int, method: str, args: Any, value: Any) -> Any:
        return value, method == "run" and args[0].tasks == (Descend(Way(near=None, seed=5), 2),)

    scripted(script)
    with pytest.raises(ModelError, match=r"^tune: 2 workers died over it, .* SIGKILL; what was done is kept, and the"):
        tune(asked, REQUEST, tmp_path / "out", fleet=TWO)
    assert not (tmp_path / "out" / "tune.json").exists()
    (tmp_path / "out" / f".seed-5.safetensors.{16 * 'a'}.tmp").write_bytes(b"half")  # as a kill in a write leaves it
    assert content(tune(asked, REQUEST, tmp_path / "out").directory) == content(alone.directory)


def test_a_worker_that_would_tune_something_else_is_refused(
    asked: schema.Experiment, tmp_path: Path, scripted: Any
) -> None:
    def script(worker: int, method: str, args: Any, value: Any) -> Any:
        other = method == "opening" and worker == 2
        return value | {"model": value["model"] | {"weights_sha256": "0"}} if other else value, False

    scripted(script)
    with pytest.raises(StoreError, match=r"^worker 2: tunes something else than the first worker \(model.weights_sha"):
        tune(asked, REQUEST, tmp_path / "out", fleet=TWO)


def test_two_processes_one_of_them_killed_find_what_one_process_finds(
    alone: Any, asked: schema.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ropewalk.tuning.portions", "ropewalk.execution.processes"])
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda name: context)
    killed: list[int] = []

    def kill() -> None:
        while not list(tmp_path.glob("out/seed-*.safetensors")):
            time.sleep(0.01)
        killed.append(context.active_children()[0].pid)
        (tmp_path / "out" / f".seed-5.safetensors.{16 * 'a'}.tmp").write_bytes(
            b"half"
        )  # as a kill in a write leaves it
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    found = tune(asked, REQUEST, tmp_path / "out", fleet=TWO)
    thread.join(10)
    assert killed
    assert plain(found.result) == plain(alone.result)
    assert content(found.directory) == content(alone.directory)
    assert not context.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_driver_of_a_directory_is_refused_before_anything_is_loaded(
    alone: Any, asked: schema.Experiment, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr("ropewalk.tuning.run.begun", never)
    monkeypatch.setattr(processes, "crewed", never)
    before = content(alone.directory)
    with locked(alone.directory), pytest.raises(StoreError, match=r"is in use by process \d+ on .*; wait for it, or"):
        tune(asked, REQUEST, alone.directory, fleet=Fleet(workers=workers))
    assert content(alone.directory) == before


def test_there_are_as_many_workers_as_seeds_and_gpus_for_them(
    asked: schema.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = Request(length=256, steps=4, repeats=3)
    table = ((0, 1, 1, True), (1, 1, 1, True), (2, 1, 2, False), (8, 1, 3, False), (4, 2, 2, False))
    for gpus, per, expected, here in table:
        monkeypatch.setattr(processes, "visible", lambda gpus=gpus: [str(i) for i in range(gpus)])
        found = side_by_side.resolved(Fleet(gpus_per_model=per), seeds)
        assert (found.workers, side_by_side.alone(found)) == (expected, here), (gpus, per)
    monkeypatch.setattr(processes, "visible", lambda: ["0", "1"])
    with pytest.raises(ExperimentError, match=r"--workers 3: this machine shows 2 GPUs; ask for at most 2"):
        tune(asked, REQUEST, tmp_path / "out", fleet=Fleet(workers=3))
    assert not (tmp_path / "out").exists()


def test_the_command_says_how_many(asked: schema.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleets: list[Fleet] = []

    def found(*args: Any, fleet: Fleet, **more: Any) -> Any:
        fleets.append(fleet)
        raise ExperimentError("enough")

    monkeypatch.setattr("ropewalk.tuning.run.tune", found)
    monkeypatch.setattr(processes, "visible", lambda: ["0", "1", "2", "3"])
    (tmp_path / "asked.yaml").write_text(json.dumps(asked.model_dump(mode="json", exclude_none=True)))
    command = ["tune", str(tmp_path / "asked.yaml"), "--length", "256", "--out", str(tmp_path / "out")]
    for more in ([], ["--repeats", "3"], ["--repeats", "3", "--gpus-per-model", "2"], ["--workers", "4"]):
        CliRunner().invoke(app, [*command, *more])
    assert [(fleet.workers, fleet.gpus_per_model) for fleet in fleets] == [(1, 1), (3, 1), (2, 2), (4, 1)]
