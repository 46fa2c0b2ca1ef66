"""What a run was asked for and does not hold yet, and the command that goes on with it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store
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


def missing(store: Store, raw: Raw) -> Missing:
    """The cells of the plan that have no row. Raises StoreError where there are rows of others."""
    done = set(store.rows("SELECT label, length, metric FROM cells"))
    asked = {(cell.label, cell.length, cell.metric) for cell in raw.plan().cells}
    if not done <= asked:  # everything that reads a run looks cells up by these
        raise store.damaged("the table cells, which holds others than were asked for,")
    return Missing(cells=len(asked - done), asked=len(asked), remedy=_remedy(store, raw))


def _remedy(store: Store, raw: Raw) -> str:
    out = str(store.directory)
    if not store.meta("source"):
        return f"`ropewalk.sweep` with the same arguments and out={out!r} goes on where it stopped."
    if ModelSpec.parse(raw.experiment.model).trust_remote_code:  # to which a run directory cannot consent
        return f"`ropewalk run FILE --out {shlex.quote(out)}` with the same file goes on where it stopped."
    return f"`{shlex.join(['ropewalk', 'resume', out])}` goes on where it stopped."
