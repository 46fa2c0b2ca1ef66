"""What a run was asked for and does not hold yet, and the command that goes on with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ropewalk.experiment.guards import LOCK
from ropewalk.experiment.plan import Plan
from ropewalk.experiment.schema import Experiment
from ropewalk.experiment.store import Store
from ropewalk.files import is_locked
from ropewalk.model_spec import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Cells that are not measured yet, of all that were asked for; as text one sentence with the way to finish."""

    cells: int
    asked: int
    remedy: str

    def __str__(self) -> str:
        if not self.cells:
            return f"All {self.asked} cells are measured."
        are = "is" if self.cells == 1 else "are"
        return f"{self.cells} of {self.asked} cells {are} not measured yet; {self.remedy}"


def missing(store: Store, experiment: Experiment, plan: Plan, cells: Iterable[Mapping[str, Any]]) -> Missing:
    """The cells of the plan that have no row."""
    done = {(row["label"], row["length"], row["metric"]) for row in cells}
    asked = {(cell.label, cell.length, cell.metric) for cell in plan.cells}
    return Missing(cells=len(asked - done), asked=len(asked), remedy=_remedy(store, experiment))


def _remedy(store: Store, experiment: Experiment) -> str:
    out = str(store.directory)
    if is_locked(store.directory, LOCK):
        return "they are being measured now."
    if not store.meta("source"):
        return f"`ropewalk.sweep` with the same arguments and out={out!r} goes on where it stopped."
    if ModelSpec.parse(experiment.model).trust_remote_code:  # to which a run directory cannot consent
        return f"`ropewalk run FILE --out {shlex.quote(out)}` with the same file goes on where it stopped."
    return f"`{shlex.join(['ropewalk', 'resume', out])}` goes on where it stopped."
