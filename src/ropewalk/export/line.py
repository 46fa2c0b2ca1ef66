"""The artefact of an engine that is told everything in one line: that line, perhaps in a file."""

from __future__ import annotations

from pathlib import Path

from ropewalk.errors import ExportError
from ropewalk.export.directory import write_text
from ropewalk.export.engine import Made, Order, printed
from ropewalk.export.proof import prove
from ropewalk.export.request import Export


def line(order: Order) -> Made:
    """Configure, prove, write to `--out`. Raises ExportError, also for gains."""
    require_no_gains(order)
    export = order.engine.configure(order.asked)
    return export, written(order, export)


def require_no_gains(order: Order) -> None:
    """Raises ExportError where there are gains, which neither a flag nor a configuration holds."""
    if order.asked.folding is not None:
        into = "--gguf IN --out OUT.gguf" if order.engine.reads_gguf else "--out DIR"
        raise ExportError(
            f"{order.engine.name}: {order.asked.method} has gains of the query, which weights have to hold and no "
            f"flag does; write them with {into}, or tune the rotation alone."
        )


def written(order: Order, export: Export, served: Path | None = None) -> tuple[str, ...]:
    """The proof of a line that serves a file, which is then written to `--out`. Raises ExportError."""
    said = prove(order, export, served)
    if order.options.out is not None:
        write_text(printed(export) + "\n", order.options.out, force=order.options.force)
    return said
