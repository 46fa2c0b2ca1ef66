"""Methods by what they change, and what that costs in time; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ropewalk.report.classes import AS_SHIPPED, CONTEXT, ORDER, ROTATION
from ropewalk.report.paces import Batch, price
from ropewalk.report.study import Study
from ropewalk.report.tables import Table, cell
from ropewalk.report.wording import MISSING, number
from ropewalk.stats.blocks import Block
from ropewalk.stats.measured import TRUNCATE

PLAIN = "of plain attention's"
EVERY_RUN = {AS_SHIPPED, ROTATION, CONTEXT}
"""What needs no table: rotations cost no time, and the baseline is fed other passes."""


def table(study: Study, block: Block | None, leading: Mapping[str, str]) -> Table | None:
    """Each method's best configuration, class by class, with its pace; None where all only rotate."""
    if block is None or set(study.classes.values()) <= EVERY_RUN:
        return None
    run, length = study.run, block.lengths[0]
    known = [label for label in (*leading.values(), TRUNCATE) if label in study.classes]
    labels = sorted(known, key=lambda label: ORDER.index(study.classes[label]))
    methods = {row.label: row.method for row in run.rows}
    rows = tuple(
        (
            study.classes[label],
            methods[label],
            label,
            cell(block.column, run.row(label, block.metric, length)),
            *_price(study, label, length),
        )
        for label in labels
    )
    columns = ("class", "method", "best configuration", f"{block.column.title} at {length:,}")
    return Table(columns=(*columns, "tokens/s", PLAIN, "on what"), rows=rows, numeric=frozenset({"tokens/s", PLAIN}))


def _price(study: Study, label: str, length: int) -> tuple[str, str, str]:
    """Tokens a second, their ratio to plain attention's on passes of the same length, and which passes those are."""
    row = next((row for row in study.run.rows if row.label == label and row.length == length), None)
    known = row is not None and study.classes[label] != CONTEXT
    found = price(study.batches, row.fingerprint, study.only_rotate, length) if row and known else None
    if found is None:
        return MISSING, MISSING, "no passes to compare"
    return (
        number(found.pace),
        MISSING if found.ratio is None else f"{found.ratio:.2f}",
        f"{_said(found.own)} beside {_said(found.plain)}",
    )


def _said(batches: Sequence[Batch]) -> str:
    """`3 batches of 4 x 1,024 tokens`."""
    count, first = len(batches), batches[0]
    return f"{count} batch{'es' * (count != 1)} of {first.rows} x {first.length:,} tokens"
