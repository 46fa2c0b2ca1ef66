"""Gains for engines that load a model directory: written there once, and served as the directory ships."""

from __future__ import annotations

from dataclasses import replace

from ropewalk.errors import ExportError
from ropewalk.export import hf
from ropewalk.export.engine import Made, Order
from ropewalk.export.line import line


def artefacts(order: Order) -> Made:
    """A line; with gains the directory that it serves too, in `--out`.

    Raises:
        ExportError: no `--out` for a directory, one that is to be served and checked at once, or a rotation that the
            engine cannot run on this model.
    """
    asked, out = order.asked, order.options.out
    if asked.folding is None or out is None:
        return line(order)
    if order.options.check:
        raise ExportError(
            f"--check: {order.engine.name} cannot serve {out} before it is written; export it with --target hf --check,"
            " which runs it, and once more with this target for the line."
        )
    from ropewalk.export.checkpoint import describe
    from ropewalk.export.request import request
    from ropewalk.model_spec import ModelSpec

    order.engine.configure(replace(asked, folding=None))  # refuses what it cannot run, before anything is written
    whole, said = hf.directory(order, out)
    made = describe(ModelSpec(id=str(out)))
    export = order.engine.configure(request(made.geometry, "none", {}, asked.length, made.checkpoint))
    return replace(export, fidelity=whole.fidelity, notes=(*export.notes, *said)), ()
