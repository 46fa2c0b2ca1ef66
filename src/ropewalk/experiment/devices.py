"""Which devices measured a run: what is paired has to come from one kind."""

from __future__ import annotations

import re

from ropewalk.errors import StoreError
from ropewalk.experiment.store import Store


def kind_of(device: str) -> str:
    """A device without its number: which of several alike measured does not matter (`cuda:1 NVIDIA H100` and
    `cuda:0 NVIDIA H100` are one kind)."""
    return ", ".join(sorted({re.sub(r"^(\w+):\d+", r"\1", each) for each in device.split(", ")}))


def require_one_kind(store: Store) -> None:
    """Refuse to pair configurations whose passes over one document, or answers, come from devices of several kinds.

    No run is written so: whoever joins, resumes or merges one is refused before. A store put together otherwise may be.

    Raises:
        StoreError: naming the document and both kinds.
    """
    if store.version == 1:
        return
    kinds = {row["worker"]: kind_of(str(row["device"])) for row in store.workers()}
    known: dict[str, str] = {}
    measured = [(f"document {document}", worker) for document, worker in _workers(store, "document", "passes")]
    measured += [("the prompts", worker) for _, worker in _workers(store, "NULL", "answers")]
    for what, worker in measured:
        kind = kinds.get(worker, "an unknown worker")
        if known.setdefault(what, kind) != kind:
            raise StoreError(
                f"{store.directory}: configurations on {what} were measured on {known[what]} and on {kind}, which "
                "round differently, so they are not compared; measure them on one kind of device."
            )


def _workers(store: Store, what: str, table: str) -> list[tuple[object, ...]]:
    return store.rows(f"SELECT DISTINCT {what}, worker FROM {table} ORDER BY 1, 2")
