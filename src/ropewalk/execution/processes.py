"""One process per GPU of this machine, or a few of some threads each on a CPU."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from ropewalk.errors import ExperimentError
from ropewalk.execution.dispatch import Died, Dispatcher, Reply
from ropewalk.execution.executor import Executor, Fleet, require_gpus
from ropewalk.execution.lease import Job, Sent
from ropewalk.experiment.prepare import Asked

STOP_S = 10.0
"""How long a worker that has nothing more to do may take to end."""


def visible() -> list[str]:
    """The GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    count, asked = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [name.strip() for name in asked.split(",")] if asked else []
    return named[:count] if len(named) >= count else [str(index) for index in range(count)]


@dataclass(frozen=True, slots=True)
class Slot:
    """What a worker may use: GPUs, and threads on the CPU."""

    gpus: tuple[str, ...]
    threads: int


def slots(fleet: Fleet, gpus: list[str], cores: int) -> list[Slot]:
    """A slot per worker.

    Raises:
        ExperimentError: there are fewer GPUs than that takes.
    """
    per = fleet.gpus_per_model
    require_gpus(fleet, len(gpus), "this machine shows")
    if not gpus:
        count = fleet.workers or 1
        return [Slot((), max(1, cores // count))] * count
    count = len(gpus) // per if fleet.workers is None else fleet.workers
    return [Slot(tuple(gpus[i * per : (i + 1) * per]), max(1, cores // count)) for i in range(count)]


class Processes:
    """The transport: a pipe to each process."""

    def __init__(self, job: Sent, slots: list[Slot]) -> None:
        self._job, self._slots = job, slots
        self._context = multiprocessing.get_context("spawn")
        self._numbers = itertools.count()
        self._alive: dict[int, tuple[BaseProcess, Connection]] = {}
        self._names: dict[int, str] = {}

    @property
    def slots(self) -> int:
        return len(self._slots)

    def start(self, slot: int) -> int:
        number = next(self._numbers)
        here, there = self._context.Pipe()
        process = self._context.Process(target=serve, args=(there, self._job, self._slots[slot]), daemon=True)
        process.start()
        there.close()
        self._alive[number] = (process, here)
        self._names[number] = f"worker {slot} (process {process.pid})"
        return number

    def name(self, worker: int) -> str:
        return self._names[worker]

    def send(self, worker: int, method: str, *args: Any) -> None:
        try:
            self._alive[worker][1].send((method, args))
        except OSError:  # it is dead, which `wait` will say
            return

    def wait(self, timeout_s: float) -> list[tuple[int, Reply | Died]]:
        by_pipe = {pipe: number for number, (_, pipe) in self._alive.items()}
        return [(by_pipe[pipe], self._receive(by_pipe[pipe])) for pipe in wait(list(by_pipe), timeout_s)]  # type: ignore[index, arg-type]

    def _receive(self, worker: int) -> Reply | Died:
        process, pipe = self._alive[worker]
        try:
            reply: Reply = pipe.recv()
            return reply
        except (EOFError, OSError):
            process.join()
            del self._alive[worker]
            pipe.close()
            code = process.exitcode or 0
            how = f"killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            return Died(f"{how}; out of memory and crashing drivers do that")

    def kill(self, worker: int) -> None:
        process, pipe = self._alive.pop(worker)
        process.kill()
        process.join()
        pipe.close()

    def clock(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        """Let everybody go, and end whoever does not."""
        for _, pipe in self._alive.values():
            pipe.close()
        until = time.monotonic() + STOP_S
        for process, _ in self._alive.values():
            process.join(max(0.0, until - time.monotonic()))
            process.kill()
            process.join()


def serve(pipe: Connection, job: Sent, slot: Slot) -> None:
    """A worker process: answers calls until its driver is gone, whose Ctrl-C it leaves to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if slot.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)  # before CUDA is asked for anything
    torch.set_num_threads(slot.threads)
    calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, calls), daemon=True).start()
    try:
        with job.leased() as lease:
            pipe.send(Reply(lease.opening()))
            while True:
                method, args = calls.get()
                pipe.send(Reply(getattr(lease, method)(*args)))
    except OSError:  # a broken pipe: nobody asks any more
        return
    except Exception as error:
        pipe.send(Reply(error=_sendable(error)))
        pipe.close()


def _listen(pipe: Connection, calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]]]) -> None:
    """Take calls at once, so that the driver never waits; without a driver there is nothing to live for."""
    try:
        while True:
            calls.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)


def _sendable(error: Exception) -> BaseException:
    """An error as another process can read it, its traceback in a note."""
    import traceback

    from ropewalk.errors import RopewalkError

    if not isinstance(error, RopewalkError):
        error = RuntimeError("".join(traceback.format_exception(error)))
    error.__cause__ = error.__context__ = None
    return error


@contextmanager
def crew(asked: Asked, exact: bool, fleet: Fleet) -> Iterator[Dispatcher]:
    """Processes that are gone after the block."""
    require_sent(asked)
    with crewed(Job.of(asked, exact=exact), fleet) as made:
        yield made


def require_sent(asked: Asked) -> None:
    """Refuse a model that no other process can load. Raises ExperimentError."""
    if asked.loaded is not None:
        raise ExperimentError(
            f"workers: the model {asked.spec.id!r} is in the memory of this process and cannot be sent to others; "
            "save it and give its directory."
        )


@contextmanager
def crewed(job: Sent, fleet: Fleet) -> Iterator[Dispatcher]:
    """A process per slot, of any job; gone after the block."""
    transport = Processes(job, slots(fleet, visible(), os.cpu_count() or 1))
    try:
        yield Dispatcher(transport, fleet.patience_s)
    finally:
        transport.close()


EXECUTOR = Executor(name="processes", summary="one process per GPU of this machine, or some on its CPU", crew=crew)
