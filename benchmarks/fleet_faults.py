"""Faults of workers, drawn at random while a run goes on, over processes and over a cluster that loses nodes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import threading
from collections import Counter
from typing import Any

from ropewalk.execution import dispatch, on_ray, processes
from ropewalk.execution.executor import Done, Executor, Fleet
from ropewalk.execution.lease import Job

WORKERS = {"processes": 2, "ray": 3}


class Faults:
    """Draws faults while a run goes on, in a thread beside its dispatcher."""

    def __init__(self, draw: random.Random, every_s: float) -> None:
        self.draw, self.every_s = draw, every_s
        self.done: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.workers: Any = dict
        self.after_chunk = threading.Event()
        self.going = threading.Event()
        self.node: Any = None
        self._end = threading.Event()

    def fresh(self, draw: random.Random) -> None:
        """Begin to count anew, with draws of its own."""
        self.draw = draw
        self.done, self.lost = Counter(), Counter()

    @contextlib.contextmanager
    def around(self, most: int) -> Any:
        self._end.clear()
        self.going.clear()
        thread = threading.Thread(target=self._act, args=(most,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _act(self, most: int) -> None:
        while not self.going.wait(0.1):  # a worker that is never ready says nothing of chunks
            if self._end.is_set():
                return
        for _ in range(most):
            if self._end.wait(self.draw.uniform(0.0, 2 * self.every_s)):
                return
            what = self.draw.choices(["killed", "killed after a chunk", "hung"], [6, 3, 1])[0]
            if self.node is not None and self.draw.random() < 0.1 and self.node():
                self.done["node removed"] += 1
                continue
            if what == "killed after a chunk":
                self.after_chunk.set()
                continue
            self.strike(what)

    def strike(self, what: str, worker: int | None = None) -> None:
        """A worker of those that are there, or one of them."""
        pids = self.workers()
        pid = self.draw.choice(sorted(pids.values())) if pids and worker is None else pids.get(worker)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if what == "hung" else signal.SIGKILL)
                self.done[what] += 1


class Watched(dispatch.Dispatcher):
    """A dispatcher that tells the faults of every chunk that came in."""

    faults: Faults

    def map(self, chunks: Any) -> Any:
        for event in super().map(chunks):
            self.faults.lost[type(event).__name__] += 1
            self.faults.going.set()
            if isinstance(event, Done) and self.faults.after_chunk.is_set():
                self.faults.after_chunk.clear()
                self.faults.strike("killed after a chunk", event.worker)
            yield event


def forkserver() -> Any:
    """Starts processes in no time: it has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scale_gpu", "ropewalk.execution.processes"])
    return context


def over_processes(faults: Faults) -> Executor:
    @contextlib.contextmanager
    def crew(asked: Any, exact: bool, fleet: Fleet) -> Any:
        transport = processes.Processes(Job.of(asked, exact=exact), [processes.Slot((), 1)] * WORKERS["processes"])
        transport._context = forkserver()
        faults.workers = lambda: {number: process.pid for number, (process, _) in list(transport._alive.items())}
        try:
            made = Watched(transport, fleet.patience_s)
            made.faults = faults
            yield made
        finally:
            faults.workers = dict
            transport.close()

    return Executor(name="processes", summary="", crew=crew)


def over_ray(faults: Faults, cluster: Any) -> Executor:
    """Actors on a cluster that loses nodes, and gets one back at once."""

    def remove() -> bool:
        others = [node for node in cluster.worker_nodes if node is not cluster.head_node]
        if not others:
            return False
        cluster.remove_node(faults.draw.choice(others), allow_graceful=False)
        cluster.add_node(num_cpus=1)
        return True

    @contextlib.contextmanager
    def crew(asked: Any, exact: bool, fleet: Fleet) -> Any:
        with on_ray.connected(fleet.address) as ray:
            from ray._private.state import actors

            transport = on_ray.Actors(ray, Job.of(asked, exact=exact), fleet)

            def pids() -> dict[int, int]:
                """Of the actors that are there; 0 until one is."""
                known = {number: actors(actor._actor_id.hex()) for number, actor in list(transport._actors.items())}
                return {number: facts["Pid"] for number, facts in known.items() if facts.get("State") == "ALIVE"}

            faults.workers, faults.node = pids, remove
            try:
                made = Watched(transport, fleet.patience_s)
                made.faults = faults
                yield made
            finally:
                faults.workers, faults.node = dict, None
                transport.close()

    return Executor(name="ray", summary="", crew=crew)
