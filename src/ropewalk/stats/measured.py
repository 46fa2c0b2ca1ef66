"""The edge where a run's frames become frozen values; nothing behind it sees pandas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from ropewalk.stats.blocks import Block
from ropewalk.stats.clusters import clustered
from ropewalk.stats.column import Column, by_weight

Status = Literal["ok", "too_few_key_tokens", "out_of_memory", "error"]
NONE, TRUNCATE = "none", "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the results table (`run.frame()`); value, ci_low and ci_high are NaN where there is none."""

    method: str
    label: str
    asked: Mapping[str, Any]
    length: int
    metric: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    status: str
    reason: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Everything that a run knows, ready for statistics.

    Attributes:
        rows: the results table.
        blocks: raw outcomes by (metric, length).
        meta: provenance, as stored.
        columns: what was measured, by name, in the order of the results.
    """

    rows: tuple[Row, ...]
    blocks: Mapping[tuple[str, int], Block]
    meta: Mapping[str, Any]
    columns: Mapping[str, Column]

    @property
    def weightiest(self) -> list[Column]:
        """Columns in the order in which they decide about a length."""
        return by_weight(self.columns.values())

    @property
    def retrieval(self) -> Column | None:
        """The column that says what is found at a length; None if the run has none."""
        return next((c for c in self.columns.values() if c.counts and c.at_length), None)

    @property
    def tail(self) -> Column | None:
        """The column of losses at a length; None if the run has none."""
        return next((c for c in self.columns.values() if c.is_ratio and c.at_length), None)

    @property
    def grouped(self) -> list[Column]:
        """The columns whose units fall into groups, such as tasks."""
        named = {metric for (metric, _), block in self.blocks.items() if block.groups}
        return [column for column in self.columns.values() if column.name in named]

    @property
    def documents(self) -> int:
        """How many texts were measured; windows of one are one."""
        return len({each.get("cluster") or each.get("id") for each in self.meta.get("documents") or ()})

    @property
    def window(self) -> int:
        """L0 in tokens: what the model was trained with before any scaling that it ships."""
        return int(self.meta["geometry"]["window"])

    @property
    def shipped_window(self) -> int:
        """What the checkpoint as shipped is meant for, in tokens: beyond this, `none` is extended by nobody."""
        geometry = self.meta["geometry"]
        longest = geometry.get("max_position_embeddings")
        overridden = str(geometry.get("window_source", "")).startswith("window in")
        return self.window if overridden or longest is None else max(self.window, int(longest))

    @property
    def experiment(self) -> Mapping[str, Any]:
        """The experiment as resolved; empty if the run does not say."""
        return self.meta.get("experiment") or self.meta.get("identity", {}).get("experiment", {})

    @property
    def lengths(self) -> tuple[int, ...]:
        """Measured lengths, ascending."""
        return tuple(sorted({row.length for row in self.rows}))

    @property
    def configurations(self) -> dict[str, list[str]]:
        """Labels of each method, in the order of the run, without the baseline `truncate`."""
        found: dict[str, dict[str, None]] = {}
        for row in self.rows:
            if row.method != TRUNCATE:
                found.setdefault(row.method, {})[row.label] = None
        return {method: list(labels) for method, labels in found.items()}

    def row(self, label: str, metric: str, length: int) -> Row | None:
        """One line of the table, or None."""
        found = (r for r in self.rows if r.label == label and r.metric == metric and r.length == length)
        return next(found, None)

    def block(self, metric: str, length: int) -> Block | None:
        """Raw outcomes of all configurations except `truncate`, or None."""
        block = self.blocks.get((metric, length))
        return block and block.once(_but_truncate)


def _but_truncate(block: Block) -> Block:
    return block.only([label for label in block.labels if label != TRUNCATE])


def measured(
    frame: pd.DataFrame, samples: pd.DataFrame, meta: Mapping[str, Any], columns: Mapping[str, Column]
) -> Measured:
    """Frames and provenance of a run as one frozen value; `columns` are all that are known, by name."""
    rows = tuple(_row(record) for record in frame.to_dict("records"))
    refused = {(r.metric, r.length, r.label): f"{r.status}: {r.reason}" for r in rows if r.status != "ok"}
    reasons = {(r.metric, r.length, r.label): r.reason for r in rows if r.reason and r.status == "ok"}
    look = (meta.get("decided") or {}).get("look") or {}
    found = blocks(samples, columns, refused, reasons, float(look.get("share", 1.0)))
    present = {row.metric for row in rows}
    own = {name: column for name, column in columns.items() if name in present}
    return Measured(rows=rows, blocks=found, meta=meta, columns=own)


def blocks(
    samples: pd.DataFrame,
    known: Mapping[str, Column],
    refused: Mapping[tuple[str, int, str], str] | None = None,
    reasons: Mapping[tuple[str, int, str], str] | None = None,
    share: float = 1.0,
) -> dict[tuple[str, int], Block]:
    """One block per metric and length that has raw outcomes, from the columns of `run.samples()`.

    A configuration enters its block if its cell is not refused and it has every unit that the most complete one has,
    all finite, and something scored; otherwise it is in `left_out` with the reason.

    Args:
        samples: one row per label, length, metric and unit, with numerator and denominator, its group if any, and of
            windows `document`.
        known: columns by name.
        refused: cells (metric, length, label) whose status is not `ok`, with the reason.
        reasons: what is said of cells that have a value, such as why some have fewer units.
        share: see `Block`.
    """
    refused = refused or {}
    columns = [samples[name].tolist() for name in ("metric", "length", "label", "unit", "numerator", "denominator")]
    document = samples.get("document", samples["unit"])
    whole = {str(u): str(d) for u, d in zip(samples["unit"], document, strict=True) if u != d}
    cells: dict[tuple[str, int], dict[str, dict[str, tuple[float, float]]]] = {}
    for metric, length, label, unit, numerator, denominator in zip(*columns, strict=True):
        cell = cells.setdefault((str(metric), int(length)), {}).setdefault(str(label), {})
        cell[str(unit)] = (float(numerator), float(denominator))
    named = zip(columns[0], columns[3], samples["group"].tolist(), strict=True) if "group" in samples else ()
    groups = {(str(metric), str(unit)): str(group) for metric, unit, group in named if group}
    found = {key: _block(known[key[0]], key[1], cell, refused, groups) for key, cell in sorted(cells.items())}
    said = {key: _explained(block, reasons or {}) for key, block in found.items()}
    return {key: replace(_of_documents(block, whole), share=share) for key, block in said.items()}


def _explained(block: Block, reasons: Mapping[tuple[str, int, str], str]) -> Block:
    """A block that says of those left out what their cells say of themselves."""
    key = block.metric, block.lengths[0]
    return replace(block, left_out={x: reasons.get((*key, x), reason) for x, reason in block.left_out.items()})


def _of_documents(block: Block, whole: Mapping[str, str]) -> Block:
    """A block whose units are documents, where some are windows of a document in `whole`."""
    documents = [whole.get(unit, unit) for unit in block.units]
    return block if tuple(documents) == block.units else clustered(block, documents)


def _block(
    column: Column,
    length: int,
    cell: Mapping[str, Mapping[str, tuple[float, float]]],
    refused: Mapping[tuple[str, int, str], str],
    groups: Mapping[tuple[str, str], str],
) -> Block:
    """Raw outcomes of one metric and length, label by label and unit by unit, as arrays."""
    units = tuple(max(cell.values(), key=len))
    flaws = {
        label: refused.get((column.name, length, label)) or _flaw(outcomes, units) for label, outcomes in cell.items()
    }
    labels = tuple(label for label, flaw in flaws.items() if flaw is None)
    pairs_CN2 = np.array([[cell[label][unit] for unit in units] for label in labels], dtype=np.float64)
    pairs_CN2 = pairs_CN2.reshape(len(labels), len(units), 2)
    return Block(
        column=column,
        lengths=(length,),
        labels=labels,
        units=units,
        numerators_CN=pairs_CN2[:, :, 0],
        denominators_CN=pairs_CN2[:, :, 1],
        left_out={label: flaw for label, flaw in flaws.items() if flaw is not None},
        groups=tuple(own) if all(own := [groups.get((column.name, unit), "") for unit in units]) else (),
    )


def _flaw(outcomes: Mapping[str, tuple[float, float]], units: tuple[str, ...]) -> str | None:
    """Why a configuration cannot be compared with the others, or None."""
    missing = [unit for unit in units if unit not in outcomes]
    if missing:
        return f"{len(units) - len(missing)} of {len(units)} units measured; {missing[0]!r} is missing"
    for unit, pair in outcomes.items():
        if not all(math.isfinite(value) for value in pair):
            return f"{unit!r} has {pair[0]} over {pair[1]} scored"
    return None if sum(pair[1] for pair in outcomes.values()) > 0 else "nothing was scored"


def _row(record: Mapping[Any, Any]) -> Row:
    """A record of the frame with missing values as NaN, and missing texts empty."""
    return Row(
        method=str(record["method"]),
        label=str(record["label"]),
        asked=dict(record["asked"]),
        length=int(record["length"]),
        metric=str(record["metric"]),
        value=_number(record["value"]),
        ci_low=_number(record["ci_low"]),
        ci_high=_number(record["ci_high"]),
        n=int(record["n"]) if _number(record["n"]) > 0 else 0,
        status=str(record["status"]),
        reason=_text(record["reason"]),
        fingerprint=_text(record["fingerprint"]),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float | np.number) else math.nan


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
