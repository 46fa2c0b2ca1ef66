"""The executors by name: these, and what other packages add under `ropewalk.executors`."""

from __future__ import annotations

from typing import Any

from ropewalk.errors import ExperimentError
from ropewalk.execution import local, on_ray, processes
from ropewalk.execution.executor import PATIENCE_S, Executor, Fleet
from ropewalk.plugins import plugged_in

EXECUTORS = {each.name: each for each in (local.EXECUTOR, processes.EXECUTOR, on_ray.EXECUTOR)}


def executor(name: str) -> Executor:
    """The executor of that name.

    Raises:
        ExperimentError: there is none, or an entry point is broken.
    """
    known = EXECUTORS | plugged_in("ropewalk.executors", Executor, EXECUTORS, ExperimentError)
    if name not in known:
        raise ExperimentError(f"executor {name!r} is unknown; give one of {', '.join(known)}.")
    return known[name]


def choose(
    *,
    workers: int | None,
    gpus_per_model: int,
    ray: str | None,
    name: str | None = None,
    patience_s: float = PATIENCE_S,
) -> dict[str, Any]:
    """`executor` and `fleet` of a sweep, from what the command line says.

    Alone where that is one worker of all that there is, so that nothing has to be started.

    Raises:
        ExperimentError: no such executor, or more workers than GPUs, or a cluster for an executor that has none.
    """
    fleet = Fleet(workers=workers, gpus_per_model=gpus_per_model, address=ray, patience_s=patience_s)
    if name is not None:
        if ray is not None and name != "ray":
            raise ExperimentError(f"--executor {name} and --ray {ray}: two ways to run; give one of them.")
        if name == local.EXECUTOR.name and ((workers or 1) > 1 or gpus_per_model > 1):
            more = f"--workers {workers}" if (workers or 1) > 1 else f"--gpus-per-model {gpus_per_model}"
            raise ExperimentError(
                f"--executor {name} and {more}: it is one worker with all GPUs that this machine shows; give one of "
                "them."
            )
        return {"executor": executor(name), "fleet": fleet}
    if ray is not None:
        return {"executor": executor("ray"), "fleet": fleet}
    gpus = processes.visible()
    alone = len(processes.slots(fleet, gpus, 1)) == 1 and len(gpus) in (0, gpus_per_model)
    return {"executor": executor("local" if alone else "processes"), "fleet": fleet}
