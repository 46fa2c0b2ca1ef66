"""A run directory as reports, statistics and people read it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ropewalk.errors import UnfinishedRun
from ropewalk.experiment.guards import sound
from ropewalk.experiment.held import held
from ropewalk.experiment.missing import Missing
from ropewalk.experiment.plan import Cell
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.run_data import CELL_COLUMNS, RunData
from ropewalk.metrics.perplexity import loss_by_position
from ropewalk.metrics.readings import Reading

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
    """A run directory, read only, as it stood when it was opened; `missing` says what it lacked."""

    data: RunData

    @classmethod
    def open(cls, directory: Path | str) -> Run:
        """Open a run; warns with `UnfinishedRun` if cells that were asked for are not measured yet.

        Raises:
            StoreError: there is none, nothing was begun, or it cannot be read.
        """
        run = cls.read(directory)
        if run.missing.cells:
            warnings.warn(f"{directory}: {run.missing}", UnfinishedRun, stacklevel=2)
        return run

    @classmethod
    def read(cls, directory: Path | str) -> Run:
        """`open` for callers who say themselves what is missing."""
        return cls(data=RunData.read(Path(directory)))

    @property
    def directory(self) -> Path:
        """Where it lies, as it was written."""
        return self.data.directory

    @property
    def meta(self) -> dict[str, Any]:
        """Everything recorded about the run: experiment, model, geometry, versions, documents, passes, times."""
        return dict(self.data.meta)

    @property
    def missing(self) -> Missing:
        """Cells that were asked for and are not measured yet."""
        return self.data.missing

    def frame(self) -> pd.DataFrame:
        """One row per finished cell: parameters as `asked`, and as resolved for its length in `params`; values NaN
        where there are none."""
        with sound(self.directory):
            frame = pd.DataFrame(self.data.cells, columns=list(CELL_COLUMNS))
            numbers = {"value": "float64", "ci_low": "float64", "ci_high": "float64", "length": "int64", "n": "int64"}
            return frame.rename(columns={"resolved": "params"}).astype(numbers)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `ropewalk results --json`: ROW_KEYS, `params` as resolved for the row's length."""
        return [{key: row[key] for key in ROW_KEYS} for row in self.labelled_rows()]

    def labelled_rows(self) -> list[dict[str, Any]]:
        """`rows` with the configuration's `label` in each; missing values are None."""
        rows = ({**cell, "params": dict(cell["resolved"])} for cell in self.data.cells)
        return [{key: row[key] for key in (*ROW_KEYS, "label")} for row in rows]

    def shown_rows(self) -> list[Mapping[str, Any]]:
        """`labelled_rows`, and what dropping the context leaves of prompts: for tables that people read."""
        with sound(self.directory):
            return [*self.labelled_rows(), *(each.row() for each in held(self.data.raw))]

    def samples(self) -> pd.DataFrame:
        """One row per finished cell and document (or trial): numerator and denominator of its value, depth of a
        trial, and the group that a unit belongs to, such as a task; empty where it belongs to none. Of documents that
        several windows are read of, a row per window; `document` is the unit either way."""
        found = [
            (
                cell.label,
                cell.method,
                cell.length,
                cell.metric,
                item.unit,
                item.numerator,
                item.denominator,
                math.nan if item.depth is None else item.depth,
                item.group or "",
                item.cluster or item.unit,
            )
            for cell, samples in self.data.samples()
            for item in samples
        ]
        names = ["label", "method", "length", "metric", "unit", "numerator", "denominator", "depth", "group"]
        names.append("document")
        return pd.DataFrame(found, columns=names)

    def curve(self) -> pd.DataFrame:
        """Loss by position of every configuration whose rotation does not change within its longest pass: label,
        length fed, position_low, position_high, nll (mean over documents and their windows, nats), n documents."""
        raw, longest = self.data.raw, self.data.raw.experiment.lengths[-1]
        with sound(self.directory):
            cells = [cell for cell in self.data.finished() if cell.metric == "perplexity" and cell.length == longest]
            found = [line for cell in cells for line in _curve(raw, cell)]
        return pd.DataFrame(found, columns=["label", "length", "position_low", "position_high", "nll", "n"])


def _curve(raw: Raw, cell: Cell) -> Iterator[tuple[Any, ...]]:
    reading = Reading(start=0, low=1, high=cell.length)
    passes = [raw.losses(cell.fingerprint, index, reading) for index in range(len(raw.documents))]
    blocks = [loss_by_position(nll[: cell.length - 1]) for nll in passes if isinstance(nll, np.ndarray)]
    documents = len({document.cluster for document in raw.documents})
    if blocks and len(blocks) == len(passes):
        for same in zip(*blocks, strict=True):
            low, high, _ = same[0]
            yield cell.label, cell.length, low, high, float(np.mean([nll for _, _, nll in same])), documents
