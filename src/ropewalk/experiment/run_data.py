"""A run read once: one opening of its database and one plan serve everything that is said of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropewalk.errors import StoreError
from ropewalk.experiment.devices import mixed
from ropewalk.experiment.guards import sound
from ropewalk.experiment.missing import Missing, missing
from ropewalk.experiment.plan import Cell, Plan
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store
from ropewalk.metrics.metric import Sample

CELL_COLUMNS = (
    "label",
    "method",
    "asked",
    "resolved",
    "length",
    "metric",
    "fingerprint",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "status",
    "reason",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunData:
    """A run as it stood when it was read.

    Attributes:
        meta: everything recorded about it: experiment, model, geometry, versions, documents, passes, times.
        cells: rows of the table cells, CELL_COLUMNS by name, `asked` and `resolved` as values.
        schemes: what passes ran under, as `Scheme.plain` says it, by fingerprint.
        raw: raw outcomes; their arrays are read from their files when they are asked for.
        missing: cells that were asked for and are not measured yet.
        mixed: why its configurations cannot be compared, if devices of several kinds measured them.
    """

    directory: Path
    meta: Mapping[str, Any]
    cells: tuple[Mapping[str, Any], ...]
    schemes: Mapping[str, Mapping[str, Any]]
    raw: Raw
    plan: Plan
    missing: Missing
    mixed: str | None

    @classmethod
    def read(cls, directory: Path) -> RunData:
        """The run in a directory.

        Raises:
            StoreError: there is none, nothing was begun, or it is damaged.
        """
        store = Store.open_run(directory, read_only=True)
        with contextlib.closing(store), sound(directory):
            data = cls.of(store)
            if len(data.finished()) < len(data.cells):  # everything that reads a run looks cells up in its plan
                raise store.damaged("the table cells, which holds others than were asked for,")
            return data

    @classmethod
    def of(cls, store: Store) -> RunData:
        """The run in an open store, which may be closed afterwards; its table may hold cells that are not planned.

        Raises:
            StoreError: nothing was begun, or it is damaged.
        """
        raw = Raw.read(store)
        plan, cells = raw.plan(), tuple(_cells(store))
        return cls(
            directory=store.directory,
            meta=_meta(store, raw, plan),
            cells=cells,
            schemes=store.schemes(),
            raw=raw,
            plan=plan,
            missing=missing(store, raw.experiment, plan, cells),
            mixed=mixed(store),
        )

    def samples(self) -> Iterator[tuple[Cell, list[Sample]]]:
        """Finished cells with their per-unit samples: outcomes of others may be there, and no table shows them yet.

        Raises:
            StoreError: a raw file is missing or not what was written, or devices of several kinds measured the run.
        """
        if self.mixed:
            raise StoreError(f"{self.directory}: {self.mixed}")
        with sound(self.directory):
            for cell in self.finished():
                samples = self.raw.samples(cell)
                if isinstance(samples, list):
                    yield cell, samples

    def finished(self) -> list[Cell]:
        """The planned cells that have a row."""
        done = {(row["label"], row["length"], row["metric"]) for row in self.cells}
        return [cell for cell in self.plan.cells if (cell.label, cell.length, cell.metric) in done]


def _cells(store: Store) -> Iterator[dict[str, Any]]:
    parsed: dict[str, Any] = {}
    for values in store.rows(f"SELECT {', '.join(CELL_COLUMNS)} FROM cells ORDER BY rowid"):
        row = dict(zip(CELL_COLUMNS, values, strict=True))
        for name in ("asked", "resolved"):
            text = row[name]
            if text not in parsed:
                parsed[text] = store.parsed(text, f"column {name} of cells")
                if not isinstance(parsed[text], dict):
                    raise store.damaged(f"column {name} of cells")
            row[name] = parsed[text]
        yield row


def _answered(store: Store) -> list[tuple[Any, ...]]:
    """Worker and time of every batch of answers."""
    return store.rows("SELECT DISTINCT worker, finished_at FROM answers") if store.version > 1 else []


def _meta(store: Store, raw: Raw, plan: Plan) -> dict[str, Any]:
    keys = [key for (key,) in store.rows("SELECT key FROM meta")]
    found = {key: store.meta(key) for key in keys}
    workers = store.workers()
    found |= {"documents": store.documents(), "workers": workers, "passes": store.table("passes")}
    found |= {"answers": len(raw.index.answers), "answered": _answered(store)}
    if workers:
        found |= {name: workers[0][name] for name in ("attention", "versions")}
    found |= {"experiment": found["identity"]["experiment"], "duplicates": plan.duplicates()}
    found |= {} if raw.state is None else {"decided": raw.state.plain()}
    return found | {name: found["model"][name] for name in ("device", "dtype")}
