"""Executors write one store; workers that die, hang or compute otherwise cost time and no number."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import socket
import sqlite3
import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.cli.arguments import parse_patience
from ropewalk.errors import ExperimentError, ModelError, StoreError
from ropewalk.execution import local, on_ray, processes
from ropewalk.execution.dispatch import Died, Dispatcher, Reply
from ropewalk.execution.executor import Executor, Fleet, require_spread
from ropewalk.execution.layout import laid_out
from ropewalk.execution.lease import Job, leased
from ropewalk.execution.run import sweep
from ropewalk.execution.table import EXECUTORS, choose, executor
from ropewalk.execution.writer import Writer
from ropewalk.experiment import schema, todo
from ropewalk.experiment.devices import kind_of
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import Store
from ropewalk.model_spec import ModelSpec
from ropewalk.report import provenance, study
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow
from ropewalk.scoring.loop import batches


def rows(out: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row but time stamps and who measured it."""
    with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as db:
        found = {}
        for table in ("documents", "schemes", "passes", "prompts", "answers", "cells"):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            names = [name for name in columns if name not in ("finished_at", "worker")]
            found[table] = sorted(db.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall(), key=repr)
        return found


def raw_files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.safetensors")}


class Scripted:
    """A transport whose workers are one lease in this process; `script` says what becomes of each of their calls."""

    def __init__(self, lease: Any, slots: int, script: Any) -> None:
        self.lease, self.slots, self.script = lease, slots, script
        Scripted.latest = self
        self.calls: dict[int, deque[Any]] = {}
        self.count, self.now = 0, 0.0
        self.ran: list[tuple[int, Any]] = []

    def start(self, slot: int) -> int:
        self.count += 1
        self.calls[self.count] = deque([("opening", ())])
        return self.count

    def name(self, worker: int) -> str:
        return f"worker {worker}"

    def send(self, worker: int, method: str, *args: Any) -> None:
        self.calls[worker].append((method, args))

    def wait(self, timeout_s: float) -> list[tuple[int, Any]]:
        self.now += timeout_s
        found = []
        for worker, calls in list(self.calls.items()):
            if not calls:
                continue
            method, args = calls[0]
            if method == "run":
                self.ran.append((worker, args[0]))
            said = self.script(worker, method, args)
            if said == "silent":
                continue
            calls.popleft()
            if isinstance(said, Died):
                del self.calls[worker]
                found.append((worker, said))
                continue
            found.append((worker, Reply(said(getattr(self.lease, method)(*args)))))
        return found

    def kill(self, worker: int) -> None:
        del self.calls[worker]

    def clock(self) -> float:
        return self.now


def honest(value: Any) -> Any:
    return value


@pytest.fixture
def scripted(base_experiment, tmp_path):
    """Run the base experiment with two workers and a script; returns the directory and the transport."""

    def make(script: Any, out: str = "run", **fleet: Any) -> tuple[Path, Scripted]:
        made: list[Scripted] = []

        @contextlib.contextmanager
        def crew(asked, exact, fleet):
            with leased(asked, exact=exact) as lease:
                made.append(Scripted(lease, 2, script))
                yield Dispatcher(made[0], fleet.patience_s)

        asked = ask(schema.parse(base_experiment, "test"))
        sweep(asked, tmp_path / out, executor=Executor(name="scripted", summary="", crew=crew), fleet=Fleet(**fleet))
        return tmp_path / out, made[0]

    return make


class TestOneStore:
    @pytest.mark.parametrize(
        "name",
        [
            "processes",
            pytest.param(
                "ray", marks=pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed")
            ),
        ],
    )
    @pytest.mark.filterwarnings("default")
    def test_every_executor_writes_what_local_writes(self, name, base_experiment, finished, tmp_path):
        asked = ask(schema.parse(base_experiment, "test"))
        sweep(asked, tmp_path / "run", executor=executor(name), fleet=Fleet(workers=2, address="local"))
        assert rows(tmp_path / "run") == rows(finished)
        assert raw_files(tmp_path / "run") == raw_files(finished)

    def test_two_workers_share_the_work_and_are_recorded(self, scripted, finished):
        out, transport = scripted(lambda *_: honest)
        assert rows(out) == rows(finished)
        store = Store.open_run(out, read_only=True)
        assert [row["device"] for row in store.workers()] == ["cpu", "cpu"]
        assert {row["worker"] for row in store.table("passes")} == {1, 2}
        assert [c["when"] for c in store.meta("canary")["checks"]] == ["start", "start", "end", "end"]
        store.close()
        assert len({chunk.tasks for _, chunk in transport.ran}) == len(transport.ran)

    @given(
        counts=st.lists(st.integers(1, 40), min_size=1, max_size=4), budget=st.integers(1, 900), of=st.integers(1, 9)
    )
    def test_chunks_are_whole_batches(self, counts, budget, of):
        still = Rotation(inv_freq=np.ones(2))
        shapes = [10 * (index + 1) for index, count in enumerate(counts) for _ in range(count)]
        made = [NllRow(ids=np.zeros(size, np.int32), scheme=Scheme(rotation=still)) for size in shapes]
        whole = batches(made, budget)
        for start in range(0, len(whole), of):  # neighbours of one shape together
            some = [batch for batch in whole[start : start + of] if len(made[batch[0]].ids) == shapes[whole[start][0]]]
            again = batches([made[index] for batch in some for index in batch], budget)
            assert [len(batch) for batch in again] == [len(batch) for batch in some]

    def test_a_layout_has_every_task_once_dearest_first(self, base_experiment):
        asked = ask(schema.parse(base_experiment, "test"))
        with leased(asked, exact=False) as lease:
            plan = lease.worker.prepared.plan
            chunks = todo.todo(plan, todo.Index())
            for workers in (1, 3):
                found = laid_out(lease.worker, chunks, workers)
                tasks = [task for chunk in found for task in chunk.tasks]
                assert len(tasks) == len(set(tasks))
                assert set(tasks) == {task for chunk in chunks for task in chunk.tasks}
                costs = [chunk.cost for chunk in found]
                assert costs == sorted(costs, reverse=True)
                assert costs[-1] > 0


class TestWorkersThatFail:
    def test_one_that_dies_gives_its_chunks_back(self, scripted, finished):
        dying = {1}

        def script(worker, method, args):
            if method == "run" and worker in dying:
                dying.clear()
                return Died("killed by signal SIGKILL")
            return honest

        out, transport = scripted(script)
        assert rows(out) == rows(finished)
        assert transport.count == 3
        again = [chunk.tasks for _, chunk in transport.ran]
        assert len(again) == len(set(again)) + 1

    def test_a_chunk_that_kills_two_is_a_failure_and_the_run_goes_on(self, scripted, finished, base_experiment):
        poison: list[Any] = []

        def script(worker, method, args):
            if method == "run":
                chunk = args[0]
                poison[:] = poison or [chunk.tasks]
                if chunk.tasks == poison[0]:
                    return Died("killed by signal SIGKILL")
            return honest

        out, transport = scripted(script)
        failed = [row for row in Store.open_run(out, read_only=True).table("answers") if row["status"] != "ok"]
        failed += [row for row in Store.open_run(out, read_only=True).table("passes") if row["status"] != "ok"]
        assert len(failed) >= len(poison[0])
        assert failed[0]["status"] == "error"
        assert "2 workers died over it, the last one (worker " in failed[0]["reason"]
        assert "SIGKILL" in failed[0]["reason"]
        assert sum(chunk.tasks == poison[0] for _, chunk in transport.ran) == 2
        assert any(row["status"] == "ok" for row in Run.open(out).rows())
        sweep(ask(schema.parse(base_experiment, "test")), out)
        assert rows(out)["cells"] == rows(finished)["cells"]

    def test_one_that_says_nothing_is_ended(self, scripted, finished):
        out, transport = scripted(
            lambda worker, method, args: "silent" if worker == 1 and method == "run" else honest, patience_s=30.0
        )
        assert rows(out) == rows(finished)
        assert 1 not in transport.calls
        assert transport.now > 30

    def test_one_that_dies_when_its_time_is_up_is_buried_once(self, scripted, finished):
        """The transport has forgotten it by then, and says so if it is to be ended again."""

        began: list[float] = []

        def script(worker, method, args):
            if worker != 1 or method != "run":
                return honest
            began.append(Scripted.latest.now)
            late = began[-1] - began[0] >= 30.0  # the very moment at which it has said nothing for longer than 30 s
            return Died("killed by signal SIGKILL") if late else "silent"

        out, transport = scripted(script, patience_s=30.0)
        assert rows(out) == rows(finished)
        assert transport.count == 3

    def test_one_that_starts_slowly_is_given_twice_the_time(self, scripted, finished):
        """Both take 15 s where 10 are allowed: a machine that is busy with other things never got any of them ready."""
        began: dict[int, float] = {}

        def script(worker, method, args):
            waited = Scripted.latest.now - began.setdefault(worker, Scripted.latest.now)
            return "silent" if method == "opening" and waited < 15.0 else honest

        out, transport = scripted(script, patience_s=1.0)
        assert rows(out) == rows(finished)
        assert transport.count == 4

    def test_none_that_starts_is_one_sentence(self, scripted, tmp_path):
        with pytest.raises(ModelError, match=r"all workers died while they started, 2 times each; one worker alone"):
            scripted(lambda worker, method, args: Died("ended with code 1"))
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                {"model": {"weights_sha256": "0" * 64}},
                r"was made with weights_sha256 \w{64}, now it is 0{64} for worker 2",
            ),
            ({"model": {"device": "cuda:0 NVIDIA H100"}}, "now it is cuda:0 NVIDIA H100 for worker 2"),
            ({"facts": {"versions": {"torch": "1.0"}}}, r"worker 2: has other versions \(torch is .* there and '1.0'"),
        ],
    )
    def test_one_that_is_not_like_the_others_is_refused(self, scripted, change, said):
        def script(worker, method, args):
            def other(opening):
                merged = {}
                for name, values in change.items():
                    before = dict(getattr(opening, name))
                    for key, value in values.items():
                        before[key] = before[key] | value if isinstance(value, dict) else value
                    merged[name] = before
                return dataclasses.replace(opening, **merged)

            return other if worker == 2 and method == "opening" else honest

        with pytest.raises(StoreError, match=said):
            scripted(script)

    def test_one_that_does_not_find_the_model_says_so_and_nothing_is_begun(self, scripted, monkeypatch, tmp_path):
        error = ModelError("model '/here/alone' is no directory and no .gguf file")
        monkeypatch.setattr(Scripted, "wait", lambda self, _: [(1, Reply(error=error))])
        with pytest.raises(ModelError, match=r"^model '/here/alone' is no directory"):
            scripted(lambda *_: honest)
        assert not (tmp_path / "run").exists()

    def test_one_whose_canary_changes_leaves_nothing_and_the_others_do(
        self, scripted, finished, base_experiment, tmp_path
    ):
        def script(worker, method, args):
            wrong = lambda found: found | {"nll": [value + 0.001 for value in found["nll"]]}  # noqa: E731
            return wrong if worker == 2 and method == "closing" else honest

        with pytest.raises(StoreError, match=r"at the end of worker 2 and was .* 0\.001 nats/token apart"):
            scripted(script)
        out = tmp_path / "run"
        left = {row[0] for table in ("passes", "answers") for row in _worker_rows(out, table)}
        assert left == {1}
        sweep(ask(schema.parse(base_experiment, "test")), out)
        assert rows(out)["cells"] == rows(finished)["cells"]

    @pytest.mark.filterwarnings("default")
    def test_a_killed_process_says_its_signal(self, base_experiment):
        job = Job.of(ask(schema.parse(base_experiment, "test")), exact=False)
        transport = processes.Processes(job, [processes.Slot((), 1)])
        try:
            worker = transport.start(0)
            os.kill(transport._alive[worker][0].pid, signal.SIGKILL)
            ((number, reply),) = transport.wait(60)
        finally:
            transport.close()
        assert number == worker
        assert isinstance(reply, Died)
        assert "killed by signal SIGKILL" in reply.reason


def _worker_rows(out: Path, table: str, column: str = "worker") -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as db:
        return db.execute(f"SELECT {column} FROM {table}").fetchall()


def test_what_is_stored_is_not_stored_again(copied, base_experiment):
    store = Store.open_run(copied)
    before = rows(copied)
    plan = ask(schema.parse(base_experiment, "test")).plan
    with store.transaction():
        store._db.execute("DELETE FROM passes")
    writer = Writer(store, dataclasses.replace(plan, documents=3), Raw.read(store))
    task = todo.passes(writer.plan, writer.index)[0]
    first, second = np.ones(task.tokens - 1, np.float32), np.full(task.tokens - 1, 2, np.float32)
    writer.add(1, [(task, first)])
    digest = store.table("passes")[0]["sha256"]
    writer.add(2, [(task, second)])
    assert [(row["worker"], row["sha256"]) for row in store.table("passes")] == [(1, digest)]
    store.close()
    assert before.keys() == rows(copied).keys()


class TestRefusals:
    def test_more_workers_than_gpus(self):
        with pytest.raises(ExperimentError, match=r"--workers 3: this machine shows 2 GPUs; ask for at most 2\."):
            processes.slots(Fleet(workers=3), ["0", "1"], 8)
        with pytest.raises(ExperimentError, match=r"--workers 2 of 2 GPUs each: the cluster has 3 GPUs; .* most 1\."):
            on_ray._slots(Fleet(workers=2, gpus_per_model=2), 3, 1)

    @pytest.mark.parametrize(
        ("gpus", "remedy"), [(0, "no GPUs; leave"), (1, "1 GPU; leave"), (3, "3 GPUs; give at most 3")]
    )
    def test_more_gpus_for_a_model_than_there_are(self, gpus, remedy):
        names = [str(place) for place in range(gpus)]
        with pytest.raises(ExperimentError, match=rf"^--gpus-per-model 4: this machine shows {remedy}"):
            processes.slots(Fleet(gpus_per_model=4), names, 8)
        with pytest.raises(ExperimentError, match=rf"^--gpus-per-model 4: the cluster has {remedy}"):
            on_ray._slots(Fleet(gpus_per_model=4), gpus, 2)

    def test_several_gpus_for_a_model_that_goes_to_one(self, base_experiment, tmp_path):
        asked, fleet = ask(schema.parse(base_experiment, "test")), Fleet(gpus_per_model=2)
        with pytest.raises(ExperimentError, match=r"^--gpus-per-model 2: the model goes to one GPU.*device_map: auto}"):
            sweep(asked, tmp_path / "run", fleet=fleet)
        with pytest.raises(ExperimentError, match=r"^--gpus-per-model 2: the model goes to one GPU"):
            require_spread(fleet, ModelSpec(id="x", device_map="cuda:1"))
        require_spread(fleet, ModelSpec(id="x", device_map="balanced"))
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("asked", "named"), [({"workers": 4}, "--workers 4"), ({"gpus_per_model": 2}, "--gpus-per-model 2")]
    )
    def test_one_worker_that_is_asked_to_be_several(self, asked, named):
        with pytest.raises(ExperimentError, match=f"^--executor local and {named}: it is one worker with all GPUs"):
            choose(**{"workers": None, "gpus_per_model": 1, "ray": None, "name": "local"} | asked)

    def test_slots_share_gpus_and_threads(self):
        assert processes.slots(Fleet(gpus_per_model=2), ["4", "5", "6", "7"], 8) == [
            processes.Slot(("4", "5"), 4),
            processes.Slot(("6", "7"), 4),
        ]
        assert processes.slots(Fleet(workers=2), [], 8) == [processes.Slot((), 4)] * 2
        assert processes.slots(Fleet(), [], 8) == [processes.Slot((), 8)]

    def test_a_model_in_memory(self, base_experiment, loaded, tmp_path):
        asked = ask(schema.parse(base_experiment, "test"), loaded)
        for each in (processes.EXECUTOR, on_ray.EXECUTOR):
            with pytest.raises(ExperimentError, match="is in the memory of this process"):
                sweep(asked, tmp_path / "run", executor=each)

    def test_an_address_where_nobody_is(self, base_experiment):
        with pytest.raises(ModelError, match=r"^--ray 127\.0\.0\.1:1: nothing answers there within 10 s"):
            on_ray._require_answer("127.0.0.1:1")
        with pytest.raises(ExperimentError, match=r"^--ray 'here': must be auto, local, or HOST:PORT"):
            on_ray._require_answer("here")

    @pytest.mark.parametrize(
        ("says", "reason"),
        [
            (b"", r"nothing answers there within 0 s \(timed out\)"),
            (b"SSH-2.0-OpenSSH", r"\(what listens there is no cluster: it said b'SSH-'\); start the cluster's head"),
            (bytes((0, 0, 18, 4)), None),
        ],
        ids=["silent", "another server", "gRPC"],
    )
    def test_an_address_where_something_else_listens(self, says, reason, monkeypatch):
        """Ray itself goes on trying for minutes."""
        monkeypatch.setattr(on_ray, "CONNECT_S", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as server:
            ended = threading.Event()

            def serve() -> None:
                taken = server.accept()[0]
                taken.sendall(says)
                ended.wait(10)
                taken.close()

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            address = f"127.0.0.1:{server.getsockname()[1]}"
            try:
                if reason is None:
                    on_ray._require_answer(address)
                else:
                    with pytest.raises(ModelError, match=rf"^--ray {address}: .*{reason}"):
                        on_ray._require_answer(address)
            finally:
                ended.set()
                thread.join()

    def test_a_model_path_that_does_not_exist_on_a_machine_of_the_cluster(self, base_experiment):
        job = Job.of(ask(schema.parse(base_experiment, "test")), exact=False)
        elsewhere = dataclasses.replace(job, experiment={**job.experiment, "model": "/no/such/model"})
        with pytest.raises(ModelError, match=rf"^on {socket.gethostname()}: model '/no/such/model' is no directory"):
            on_ray.Hand(elsewhere, None).call("opening")

    @pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
    def test_no_ray(self, base_experiment, tmp_path):
        with pytest.raises(ModelError, match=r"Ray is not installed; pip install 'ropewalk\[ray\]'"):
            sweep(ask(schema.parse(base_experiment, "test")), tmp_path / "run", executor=on_ray.EXECUTOR)

    def test_an_unknown_executor(self):
        assert list(EXECUTORS) == ["local", "processes", "ray"]
        assert executor("local") is local.EXECUTOR
        with pytest.raises(ExperimentError, match="executor 'slurm' is unknown; give one of local, processes, ray"):
            executor("slurm")
        with pytest.raises(ExperimentError, match="--executor local and --ray auto: two ways to run; give one of them"):
            choose(workers=None, gpus_per_model=1, ray="auto", name="local")

    def test_an_executor_and_a_patience_are_what_was_asked(self):
        chosen = choose(workers=2, gpus_per_model=1, ray=None, name="processes", **parse_patience("1.5m"))
        assert (chosen["executor"], chosen["fleet"]) == (processes.EXECUTOR, Fleet(workers=2, patience_s=90.0))
        assert parse_patience(None) == {}
        for text in ("0s", "10", "soon", "-1s"):
            with pytest.raises(ExperimentError, match=f"^--patience '{text}': must be a time of at least 1s"):
                parse_patience(text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("cuda:0 NVIDIA H100", "cuda:3 NVIDIA H100", True),
        ("cuda:0 NVIDIA H100, cuda:1 NVIDIA H100", "cuda:0 NVIDIA H100", True),
        ("cuda:0 NVIDIA H100", "cuda:0 NVIDIA A100", False),
        ("cuda:0 NVIDIA H100, cpu", "cuda:0 NVIDIA H100", False),
        ("cpu", "cpu", True),
    ],
)
def test_devices_of_one_kind(one, other, same):
    assert (kind_of(one) == kind_of(other)) is same


class TestPairing:
    @pytest.mark.parametrize(
        ("table", "what"), [("passes", "document 0"), ("answers", "the prompts")], ids=["passes", "answers"]
    )
    def test_devices_of_two_kinds_are_not_paired(self, copied, table, what):
        with contextlib.closing(sqlite3.connect(copied / "run.sqlite")) as db, db:
            db.execute(
                "INSERT INTO workers SELECT 2, 'cuda:0 NVIDIA H100', attention, versions, started_at FROM workers"
            )
            one = "SELECT MIN(rowid) FROM passes WHERE document = 0" if table == "passes" else "2"
            db.execute(f"UPDATE {table} SET worker = 2 WHERE rowid = ({one})")
        with pytest.raises(StoreError, match=rf"configurations on {what} were measured on (cpu|cuda.*) and on "):
            Run.read(copied).samples()

    def test_devices_of_one_kind_are(self, copied):
        with contextlib.closing(sqlite3.connect(copied / "run.sqlite")) as db, db:
            db.execute("UPDATE workers SET device = 'cuda:0 NVIDIA H100'")
            db.execute(
                "INSERT INTO workers SELECT 2, 'cuda:1 NVIDIA H100', attention, versions, started_at FROM workers"
            )
            db.execute("UPDATE passes SET worker = 2 WHERE rowid % 2")
        assert len(Run.read(copied).samples()) > 0

    def test_the_report_says_how_far_workers_are_apart(self, scripted):
        out, _ = scripted(lambda *_: honest)
        with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as db, db:
            known = json.loads(db.execute("SELECT value FROM meta WHERE key = 'canary'").fetchone()[0])
            known["checks"][2]["difference"] = 3e-5
            db.execute("UPDATE meta SET value = ? WHERE key = 'canary'", [json.dumps(known)])
        rows = dict(provenance.table(study.read(out).run).rows)
        assert rows["workers"] == "2"
        assert rows["canary"] == "4 checks of all workers differ by at most 3e-05 nats/token"


def test_a_run_gone_on_with_after_two_deaths_is_the_run_left_in_peace(scripted, finished, base_experiment):
    """The passes that took the place of those that two workers died over are not kept beside them."""
    chunk: list[Any] = []

    def script(worker, method, args):
        if (
            method == "run"
            and isinstance(args[0].tasks[0], todo.PassTask)
            and args[0].tasks in (chunk or [args[0].tasks])
        ):
            chunk.append(args[0].tasks)
            return Died("killed by signal SIGKILL") if len(chunk) < 3 else honest
        return honest

    out, _ = scripted(script)
    failed = [row[0] for row in _worker_rows(out, "passes", "status") if row[0] == "error"]
    assert failed
    assert len(rows(out)["passes"]) > len(rows(finished)["passes"])
    sweep(ask(schema.parse(base_experiment, "test")), out)
    assert rows(out) == rows(finished)
