"""A run directory as reports, statistics and people read it."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ropewalk.errors import UnfinishedRun
from ropewalk.experiment.devices import require_one_kind
from ropewalk.experiment.missing import Missing, missing
from ropewalk.experiment.plan import Cell
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store, sound
from ropewalk.metrics.perplexity import loss_by_position
from ropewalk.metrics.readings import Reading

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


ROW_KEYS = (
    "method",
    "params",
    "length",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "status",
    "reason",
    "fingerprint",
)
"""Frozen: what `ropewalk results --json` and `--csv` print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run directory, read only; `missing` says what it still lacks."""

    directory: Path

    @classmethod
    def open(cls, directory: Path | str) -> Run:
        """Open a run; warns with `UnfinishedRun` if cells that were asked for are not measured yet.

        Raises:
            StoreError: there is none, nothing was begun, or it cannot be read.
        """
        run = cls(directory=Path(directory))
        if run.missing.cells:
            warnings.warn(f"{directory}: {run.missing}", UnfinishedRun, stacklevel=2)
        return run

    @contextlib.contextmanager
    def _store(self) -> Iterator[Store]:
        store = Store.open_run(self.directory, read_only=True)
        with contextlib.closing(store), sound(self.directory):
            yield store

    @property
    def meta(self) -> dict[str, Any]:
        """Everything recorded about the run: experiment, model, geometry, versions, documents, passes, times."""
        with self._store() as store:
            keys = [key for (key,) in store.rows("SELECT key FROM meta")]
            found = {key: store.meta(key) for key in keys}
            found["documents"] = store.documents()
            found["workers"] = store.workers()
            if found["workers"]:
                found |= {name: found["workers"][0][name] for name in ("attention", "versions")}
            found["passes"] = store.table("passes")
            if found.get("identity") is not None:
                found |= {"experiment": found["identity"]["experiment"]}
                found |= {name: found["model"][name] for name in ("device", "dtype")}
                raw = Raw.read(store)
                found["duplicates"] = raw.plan().duplicates()
                found |= {} if raw.state is None else {"decided": raw.state.plain()}
            return found

    def frame(self) -> pd.DataFrame:
        """One row per finished cell; `params` as asked, `resolved` as run, values None where there are none."""
        with self._store() as store:
            rows = store.rows(f"SELECT {', '.join(CELL_COLUMNS)} FROM cells ORDER BY rowid")
            frame = pd.DataFrame(rows, columns=list(CELL_COLUMNS))
            for name in ("asked", "resolved"):
                frame[name] = [store.parsed(text, f"column {name} of cells") for text in frame[name]]
            numbers = {"value": "float64", "ci_low": "float64", "ci_high": "float64", "length": "int64", "n": "int64"}
            return frame.rename(columns={"asked": "params"}).astype(numbers)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `ropewalk results --json`: ROW_KEYS, `params` as resolved for the row's length."""
        return [{key: row[key] for key in ROW_KEYS} for row in self.labelled_rows()]

    def labelled_rows(self) -> list[dict[str, Any]]:
        """`rows` with the configuration's `label` in each; missing values are None."""
        found = []
        for values in self.frame().to_dict("records"):
            row = {str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}
            row["params"] = row.pop("resolved")
            found.append({key: row[key] for key in (*ROW_KEYS, "label")})
        return found

    @property
    def missing(self) -> Missing:
        """Cells that were asked for and are not measured yet."""
        with self._store() as store:
            return missing(store, Raw.read(store))

    def samples(self) -> pd.DataFrame:
        """One row per finished cell and document (or trial): numerator and denominator of its value, depth of a
        trial, and the group that a unit belongs to, such as a task; empty where it belongs to none. Of documents that
        several windows are read of, a row per window; `document` is the unit either way."""
        names = [
            "label",
            "method",
            "length",
            "metric",
            "unit",
            "numerator",
            "denominator",
            "depth",
            "group",
            "document",
        ]
        with self._store() as store:
            require_one_kind(store)
            raw = Raw.read(store)
            found: list[tuple[Any, ...]] = []
            for cell in _finished(store, raw):
                samples = raw.samples(cell)
                for item in samples if isinstance(samples, list) else []:
                    depth = math.nan if item.depth is None else item.depth
                    found.append(
                        (
                            cell.label,
                            cell.method,
                            cell.length,
                            cell.metric,
                            item.unit,
                            item.numerator,
                            item.denominator,
                            depth,
                            item.group or "",
                            item.cluster or item.unit,
                        )
                    )
        return pd.DataFrame(found, columns=names)

    def curve(self) -> pd.DataFrame:
        """Loss by position of every configuration whose rotation does not change within its longest pass: label,
        length fed, position_low, position_high, nll (mean over documents and their windows, nats), n documents."""
        found: list[tuple[Any, ...]] = []
        with self._store() as store:
            raw = Raw.read(store)
            for cell in _finished(store, raw):
                if cell.metric == "perplexity" and cell.length == raw.experiment.lengths[-1]:
                    found += list(_curve(raw, cell))
        return pd.DataFrame(found, columns=["label", "length", "position_low", "position_high", "nll", "n"])


def _finished(store: Store, raw: Raw) -> Iterator[Cell]:
    """The cells that have a row: outcomes of others may be there, and no table shows them yet."""
    done = set(store.rows("SELECT label, length, metric FROM cells"))
    return (cell for cell in raw.plan().cells if (cell.label, cell.length, cell.metric) in done)


def _curve(raw: Raw, cell: Cell) -> Iterator[tuple[Any, ...]]:
    reading = Reading(start=0, low=1, high=cell.length)
    passes = [raw.losses(cell.fingerprint, index, reading) for index in range(len(raw.documents))]
    blocks = [loss_by_position(nll[: cell.length - 1]) for nll in passes if isinstance(nll, np.ndarray)]
    documents = len({document.cluster for document in raw.documents})
    if blocks and len(blocks) == len(passes):
        for same in zip(*blocks, strict=True):
            low, high, _ = same[0]
            yield cell.label, cell.length, low, high, float(np.mean([nll for _, _, nll in same])), documents
