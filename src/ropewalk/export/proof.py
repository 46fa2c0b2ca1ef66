"""`--check`: what the exported form is compared with, on a server or here."""

from __future__ import annotations

from pathlib import Path

from ropewalk.export import endpoint, with_code
from ropewalk.export import reference as measured
from ropewalk.export.check import compared, run_transformers
from ropewalk.export.engine import Live, Order
from ropewalk.export.folding_hf import dtype_of
from ropewalk.export.reference import Reference
from ropewalk.export.request import Export


def prove(order: Order, export: Export, artefact: Path | None = None) -> tuple[str, ...]:
    """What the engine's own proof says of an artefact: its server's where `--endpoint` names one, else that here.

    Nothing without `--check`.

    Raises:
        ExportError: the engine does not run what was measured, or cannot be asked.
    """
    engine, options = order.engine, order.options
    if not options.check:
        return ()
    if options.endpoint is not None and engine.server is not None:
        return of_server(order, engine.server, options.endpoint)
    assert engine.here is not None  # refused before
    return engine.here.prove(order, export, artefact)


def of_directory(order: Order, directory: Path) -> tuple[str, ...]:
    """An exported model directory under stock transformers in float32: against what was measured, and where that
    was rounded otherwise, once more without the rounding, which would hide a slightly wrong rotation."""
    reference = reference_of(order)
    folded = "" if order.asked.folding is None else dtype_of(directory)
    if order.asked.needs_code:
        engine = with_code.run(directory, reference)
    else:
        engine = run_transformers(directory, reference, folded=folded)
    references = [reference]
    if reference.dtype != "float32":
        references.append(measured.again(order.found.spec, order.asked, reference))
    return tuple(compared(order.asked, each, engine) for each in references)


def of_server(order: Order, server: Live, url: str) -> tuple[str, ...]:
    """The user's own server, which already runs the exported form."""
    reference = reference_of(order, bos=server.bos)
    reference = measured.shortened(reference, max(2, order.asked.length - server.room))
    return (compared(order.asked, reference, endpoint.run(url, server, reference.ids, reference.text)),)


def reference_of(order: Order, *, bos: bool = False) -> Reference:
    """The measured losses: the run's, else the patched model's."""
    if order.run is not None:
        return measured.of_run(order.run, order.asked)
    return measured.of_model(order.found.spec, order.asked, bos=bos)
