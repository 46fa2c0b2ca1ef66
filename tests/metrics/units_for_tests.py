"""Units, prompts and cells of a metric without a run."""

from __future__ import annotations

from ropewalk.experiment.plan import Cell
from ropewalk.experiment.prepare import encoder
from ropewalk.metrics import registered
from ropewalk.metrics.metric import Documents, Material, OfDocument, Prompts
from ropewalk.metrics.passkey import Passkey, build
from ropewalk.stats.column import Column


def cell_of(metric: str, column: Column, readings=(), *, length=120, options=None) -> Cell:
    """A cell of a registered metric, made of these readings (or of answers, without any)."""
    source = registered()[metric]
    return Cell(
        label="none",
        method="none",
        asked={},
        resolved={},
        length=length,
        column=column,
        source=source,
        options=options if options is not None else source.options(),
        fingerprint="0" * 16,
        scheme="0" * 16,
        needs=Documents(readings=tuple(readings)) if readings else Prompts(count=1),
    )


def sample_of(cell: Cell, nll, *, id="a", **arrays):
    """What a document whose every pass has these losses gives to a cell."""
    unit = OfDocument(id=id, arrays=arrays, losses=lambda _: nll)
    return cell.source.sample(cell.column, cell.options, cell.readings, unit)


def material(encode, *, bos_id=None, prose=(), chat=None, seed=0, encode_whole=None) -> Material:
    return Material(
        encode=encode, encode_whole=encode_whole or encode, chat=chat, bos_id=bos_id, prose=prose, seed=seed
    )


def prompts(encode, length=400, trials=5, *, seed=0, bos_id=None, haystack=None):
    """Passkey prompts of the exact protocol."""
    asked = Passkey(trials=trials, haystack="filler" if haystack is None else "essay")
    return build(asked, material(encode, bos_id=bos_id, prose=haystack or (), seed=seed), length)


__all__ = ["cell_of", "encoder", "material", "prompts", "sample_of"]
