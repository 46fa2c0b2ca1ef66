"""Workers as actors of a Ray cluster; the driver plans and alone writes, on its own disk.

An actor has all of its GPUs and no CPU (`num_cpus=0`: the driver hands out chunks, Ray need not). Ray never restarts it
(`max_restarts=0`, `max_task_retries=0`, the defaults: a call runs at most once); the dispatcher puts another one in its
place and knows why. The runtime environment holds environment variables alone: packages and models are on the machines.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ropewalk.errors import ExperimentError, ModelError, RopewalkError
from ropewalk.execution.dispatch import Died, Dispatcher, Reply
from ropewalk.execution.executor import Executor, Fleet, require_gpus
from ropewalk.execution.lease import Job, Lease
from ropewalk.experiment.prepare import Asked

HANDED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "PYTHONPATH")
"""Environment variables that workers get from the driver."""
CONNECT_S = 10.0


class Hand:
    """What an actor is: a lease that answers calls."""

    def __init__(self, job: Job, threads: int | None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._stack = contextlib.ExitStack()
        self._job = job
        self._lease: Lease | None = None

    def call(self, method: str, *args: Any) -> Any:
        """What a method of the lease returns; the first call begins it.

        Raises:
            RopewalkError: what it refuses, with the machine on which it does.
        """
        try:
            if self._lease is None:
                self._lease = self._stack.enter_context(self._job.leased())
            return getattr(self._lease, method)(*args)
        except RopewalkError as error:
            raise type(error)(f"on {socket.gethostname()}: {error}") from None


class Actors:
    """The transport: calls of actors in order, `ray.wait` over the oldest one of each."""

    def __init__(self, ray: Any, job: Job, fleet: Fleet) -> None:
        self._ray, self._job = ray, ray.put(job)
        resources = ray.cluster_resources()
        self._gpus, self._slots = fleet.gpus_per_model, _slots(fleet, int(resources.get("GPU", 0)), len(_alive(ray)))
        if not resources.get("GPU"):
            self._gpus = 0
        self._threads = None if self._gpus else max(1, int(resources.get("CPU", 1)) // self._slots)
        self._numbers = itertools.count()
        self._actors: dict[int, Any] = {}
        self._calls: dict[int, deque[Any]] = {}
        self._names: dict[int, str] = {}

    @property
    def slots(self) -> int:
        return self._slots

    def start(self, slot: int) -> int:
        options = {"num_cpus": 0, "num_gpus": self._gpus, "max_restarts": 0, "max_task_retries": 0}
        actor = self._ray.remote(Hand).options(**options, scheduling_strategy="SPREAD").remote(self._job, self._threads)
        number = next(self._numbers)
        self._actors[number], self._calls[number] = actor, deque([actor.call.remote("opening")])
        self._names[number] = f"worker {slot} (actor {actor._actor_id.hex()[:12]})"
        return number

    def name(self, worker: int) -> str:
        return self._names[worker]

    def send(self, worker: int, method: str, *args: Any) -> None:
        self._calls[worker].append(self._actors[worker].call.remote(method, *args))

    def wait(self, timeout_s: float) -> list[tuple[int, Reply | Died]]:
        oldest = {calls[0]: worker for worker, calls in self._calls.items() if calls}
        if not oldest:
            time.sleep(timeout_s)
            return []
        done, _ = self._ray.wait(list(oldest), num_returns=1, timeout=timeout_s)
        more, _ = self._ray.wait(list(oldest), num_returns=len(oldest), timeout=0)
        return [(oldest[ref], self._receive(oldest[ref], ref)) for ref in dict.fromkeys([*done, *more])]

    def _receive(self, worker: int, ref: Any) -> Reply | Died:
        errors = self._ray.exceptions
        try:
            reply = Reply(self._ray.get(ref))
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None)
            return Reply(error=cause if isinstance(cause, RopewalkError) else error)
        except errors.RayError as error:  # the actor, its node, or what it returned is gone
            self.kill(worker)
            return Died(" ".join(str(error).split())[:300])
        self._calls[worker].popleft()
        return reply

    def kill(self, worker: int) -> None:
        self._ray.kill(self._actors.pop(worker), no_restart=True)
        del self._calls[worker]

    def clock(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        for worker in list(self._actors):
            self.kill(worker)


def _alive(ray: Any) -> list[Any]:
    return [node for node in ray.nodes() if node["Alive"]]


def _slots(fleet: Fleet, gpus: int, nodes: int) -> int:
    """How many workers; on a cluster without GPUs one per machine unless asked otherwise."""
    require_gpus(fleet, gpus, "the cluster has")
    return fleet.workers or (gpus // fleet.gpus_per_model if gpus else nodes)


def _require_answer(address: str) -> None:
    """Refuse an address at which nobody listens, where Ray would try for minutes."""
    if address.startswith("ray://"):
        raise ExperimentError(f"--ray {address}: start the run on a machine of the cluster, with --ray auto.")
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ExperimentError(f"--ray {address!r}: must be auto, local, or HOST:PORT of the cluster's head.")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_S) as open_to:
            reason = None if os.environ.get("RAY_USE_TLS") == "1" else _not_grpc(open_to)
    except (OSError, OverflowError) as error:
        reason = str(error)
    if reason is not None:
        raise ModelError(
            f"--ray {address}: nothing answers there within {CONNECT_S:.0f} s ({reason}); start the cluster's head "
            "with `ray start --head`, or give its address."
        )


def _not_grpc(open_to: socket.socket) -> str | None:
    """Why what listens is no cluster's head: a server of gRPC says its settings first (RFC 9113, section 3.4)."""
    open_to.settimeout(CONNECT_S)
    open_to.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    said = open_to.recv(4)
    return None if len(said) == 4 and said[3] == 4 else f"what listens there is no cluster: it said {said!r}"


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected inside the block; a connection of the caller's own is used and kept.

    Raises:
        RopewalkError: it is not installed, or there is no cluster at the address.
    """
    if importlib.util.find_spec("ray") is None:
        raise ModelError("--ray: Ray is not installed; pip install 'ropewalk[ray]', or use --workers on one machine.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default, said to silence a warning
    import ray

    if ray.is_initialized():
        yield ray
        return
    if address not in ("auto", "local"):
        _require_answer(address)
    more: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    variables = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": variables},
            log_to_driver=False,
            logging_level="error",
            **more,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"--ray {address}: no cluster to connect to ({said}); start one with `ray start --head`."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def crew(asked: Asked, exact: bool, fleet: Fleet) -> Iterator[Dispatcher]:
    """Actors that are gone after the block."""
    if asked.loaded is not None:
        raise ExperimentError(
            f"--ray: the model {asked.spec.id!r} is in the memory of this process; save it where every machine of the "
            "cluster finds it, and give its directory."
        )
    with connected(fleet.address or "auto") as ray:
        transport = Actors(ray, Job.of(asked, exact=exact), fleet)
        try:
            yield Dispatcher(transport, fleet.patience_s)
        finally:
            transport.close()


EXECUTOR = Executor(name="ray", summary="actors of a Ray cluster", crew=crew)
