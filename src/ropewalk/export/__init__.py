"""From a measured rotation to the configuration of one engine; a rotation that it cannot run is refused.

A new engine is one file beside this one with an Engine, one line of ENGINES, and a column of the table in
docs/engines.md; another package registers one by an entry point of the group `ropewalk.engines`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from ropewalk.errors import ExportError, one_of
from ropewalk.export import hf, llamacpp, mlx, sglang, vllm
from ropewalk.export.engine import Engine, Here, Kind, Live, Order
from ropewalk.export.request import Checkpoint, Export, Request, request
from ropewalk.plugins import plugged_in

__all__ = [
    "ENGINES",
    "Checkpoint",
    "Engine",
    "Export",
    "Here",
    "Kind",
    "Live",
    "Order",
    "Request",
    "find",
    "names",
    "registered",
    "request",
]

GROUP = "ropewalk.engines"

ENGINES: dict[str, Engine] = {
    each.name: each for each in (hf.ENGINE, vllm.ENGINE, sglang.ENGINE, llamacpp.ENGINE, mlx.ENGINE)
}


def registered() -> Mapping[str, Engine]:
    """The built-in engines and those of installed packages, by name. Raises ExportError for a broken package."""
    return ENGINES | plugged_in(GROUP, Engine, ENGINES, ExportError)


def find(target: str) -> Engine:
    """The engine of that name, built in or of an installed package. Raises ExportError with the names there are."""
    if target in ENGINES:
        return ENGINES[target]
    known = registered()
    if target not in known:
        raise ExportError(f"--target {target!r}: {one_of(target, known)}")
    return known[target]


def names() -> tuple[str, ...]:
    """What `--target` takes; loads no other package."""
    return (*ENGINES, *sorted({entry.name for entry in entry_points(group=GROUP)} - set(ENGINES)))


class _Verb(ModuleType):
    """This package, which `ropewalk.export(source, target, ...)` also calls."""

    def __call__(
        self, source: Any, target: str, *, model: str | None = None, length: int | None = None, **params: Any
    ) -> str:
        """A rotation as an engine's configuration: of a run what it recommends at `length`, else of a method's name.

        Raises:
            RopewalkError: a mistake in the arguments, or a rotation that the engine cannot run.
        """
        from ropewalk.export import command

        named = str(getattr(source, "directory", source))
        return command.run(named, target, model=model, params=params, length=length, options=command.Options())[0]


sys.modules[__name__].__class__ = _Verb
