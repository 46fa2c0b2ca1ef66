"""The contract of an executor: who runs chunks, and what it says of that; three keep it, packages can add more.

Laws (tests/experiment/test_executors.py): every executor writes the store that `local` writes, time stamps and
workers' facts aside; a chunk that is run twice is stored once; a worker that dies gives its chunks back; a chunk that
kills two workers is a recorded failure, and the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from ropewalk.errors import ExperimentError
from ropewalk.execution.lease import Opening
from ropewalk.execution.worker import Result
from ropewalk.experiment.prepare import Asked
from ropewalk.experiment.todo import Chunk, Task
from ropewalk.model_spec import ModelSpec
from ropewalk.models.placement import SPREADS

PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What is asked of an executor.

    Attributes:
        workers: how many; None for as many as there are GPUs.
        gpus_per_model: of each worker; more than one with `device_map: auto`.
        address: of a cluster.
        patience_s: seconds that a worker may be silent over a chunk, if ten times its usual pace is less.
    """

    workers: int | None = None
    gpus_per_model: int = 1
    address: str | None = None
    patience_s: float = PATIENCE_S


def require_gpus(fleet: Fleet, gpus: int, where: str) -> None:
    """Refuse a fleet that takes more GPUs than there are; on a CPU there are as many workers as are asked for.

    Raises:
        ExperimentError: as `where` shows so many.
    """
    per = fleet.gpus_per_model
    if per > max(gpus, 1):
        most = f"give at most {gpus}" if gpus > 1 else "leave it out"
        raise ExperimentError(f"--gpus-per-model {per}: {where} {_count(gpus)}; {most}.")
    if fleet.workers is not None and gpus and fleet.workers * per > gpus:
        each = f" of {per} GPUs each" if per > 1 else ""
        raise ExperimentError(
            f"--workers {fleet.workers}{each}: {where} {_count(gpus)}; ask for at most {gpus // per}."
        )


def _count(gpus: int) -> str:
    return f"{gpus or 'no'} GPU{'s' * (gpus != 1)}"


def require_spread(fleet: Fleet, spec: ModelSpec) -> None:
    """Refuse several GPUs for a model that would use the first of them. Raises ExperimentError."""
    if fleet.gpus_per_model > 1 and spec.device_map not in SPREADS:
        raise ExperimentError(
            f"--gpus-per-model {fleet.gpus_per_model}: the model goes to one GPU, and the others would idle; write "
            f"model: {{id: {spec.id}, device_map: auto}}, or leave it out."
        )


class Portion(Protocol):
    """What a worker takes at once: a chunk of a run, or a part of a tuning."""

    @property
    def tasks(self) -> tuple[Any, ...]: ...

    @property
    def cost(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """A worker is ready."""

    worker: int
    name: str
    opening: Opening


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Done:
    """Outcomes that a worker sent."""

    worker: int
    outcomes: Sequence[tuple[Task, Result]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lost:
    """A worker is gone, and why; what it had not sent is done by others."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Closed:
    """A worker's canary at the end of its lease."""

    worker: int
    name: str
    canary: dict[str, Any]


Event = Joined | Done | Lost


class Crew(Protocol):
    """Workers of one session."""

    def first(self) -> Joined:
        """Wait for the first worker. Raises RopewalkError if there will be none."""
        ...

    def ask(self, method: str, *args: Any) -> Any:
        """What a method of one worker's `Lease` returns."""
        ...

    def map(self, chunks: Sequence[Chunk]) -> Iterator[Event]:
        """Outcomes of every task of the chunks, in any order, and which workers come and go meanwhile."""
        ...

    def close(self) -> Iterator[Closed]:
        """End every lease."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Executor:
    """A row of the table: `crew` gives workers inside its block, and leaves none behind it."""

    name: str
    summary: str
    crew: Callable[[Asked, bool, Fleet], AbstractContextManager[Crew]]
