"""What every metric declares, field by field, kept as a file: its columns decide how all that follows judges it.

`python tests/metrics/test_golden_columns.py` writes it again; read what changed before you commit it.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from ropewalk.metrics import METRICS

KEPT = Path(__file__).parent / "golden_columns.txt"


def said() -> list[str]:
    return [
        f"{name}: {column.name}.{field.name} = {getattr(column, field.name)!r}"
        for name, metric in METRICS.items()
        for column in metric.columns
        for field in fields(column)
    ]


def test_nothing_else_changed() -> None:
    assert said() == KEPT.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    KEPT.write_text("\n".join(said()) + "\n", encoding="utf-8")
