"""Raw outcomes of a run, by what they measure, and the cells made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExperimentError, MethodError, ModelError, StoreError
from ropewalk.experiment import plan as planning
from ropewalk.experiment.cells import DocumentFacts, Measured, Sample, failed, measure, row, sample
from ropewalk.experiment.judge import succeeded
from ropewalk.experiment.plan import Cell, Feed, Plan
from ropewalk.experiment.schema import Experiment, stored
from ropewalk.experiment.store import Store, canonical
from ropewalk.metrics.readings import Reading
from ropewalk.rope import RopeGeometry

Outcome = tuple[str, str | None, str | None, str | None]
"""status, reason, raw file, its sha256."""


@dataclass(slots=True)
class Raw:
    """Raw outcomes of a run by what they measure; arrays are read when they are asked for and checked by hash."""

    store: Store
    experiment: Experiment
    geometry: RopeGeometry
    documents: list[DocumentFacts]
    passes: dict[tuple[Feed, int], dict[int, Outcome]] = field(default_factory=dict)
    trials: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)
    _arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store) -> Raw:
        """Read what a run is about, and the index of its raw outcomes.

        Raises:
            StoreError: the run was never begun, or is damaged.
        """
        identity, facts = store.meta("identity"), store.meta("geometry")
        if identity is None or facts is None:
            raise StoreError(f"{store.directory}: nothing is measured yet; run the experiment again.")
        try:
            raw = cls(store, stored(identity["experiment"]), geometry(facts), _documents(store))
        except (LookupError, TypeError, ValueError, ModelError):
            raise store.damaged("meta identity or geometry") from None
        raw.refresh()
        return raw

    def refresh(self) -> None:
        """Read the index of passes and trials anew."""
        self.passes.clear()
        self.trials.clear()
        query = "SELECT fingerprint, document, start, bos, stop, status, reason, file, sha256 FROM passes"
        for fingerprint, document, start, bos, stop, *outcome in self.store.rows(query):
            feed = Feed(fingerprint=fingerprint, start=start, bos=bool(bos))
            self.passes.setdefault((feed, document), {})[stop] = tuple(outcome)
        names = (
            "fingerprint",
            "length",
            "trial",
            "key",
            "depth",
            "status",
            "reason",
            "success",
            "answer",
            "predicted",
            "text",
            "nll",
        )
        for values in self.store.rows(f"SELECT {', '.join(names)} FROM trials ORDER BY trial"):
            trial = dict(zip(names, values, strict=True))
            self.trials.setdefault((trial["fingerprint"], trial["length"]), []).append(trial)

    def plan(self) -> Plan:
        """The plan, made again from what the run recorded.

        Raises:
            StoreError: that is no plan.
        """
        try:
            configs = planning.configurations(self.experiment.methods)
            return planning.make(self.experiment, self.geometry, len(self.documents), configs)
        except (ExperimentError, MethodError, ModelError) as error:
            raise StoreError(f"{self.store.directory}: what it recorded cannot be planned again: {error}") from None

    def losses(self, fingerprint: str, document: int, reading: Reading) -> NDArray[np.float32] | Measured | None:
        """The pass that serves a reading; its failure if the pass that ends where it does failed; None if that was
        not tried yet."""
        feed = Feed(fingerprint=fingerprint, start=reading.start, bos=reading.bos)
        outcomes = self.passes.get((feed, document), {})
        for stop, (status, _, file, digest) in sorted(outcomes.items()):
            if stop >= reading.high and status == "ok":
                return self._array(str(file), str(digest), stop - reading.start - 1)
        status, reason, _, _ = outcomes.get(reading.high, ("ok", None, None, None))
        return None if status == "ok" else failed(status, str(reason))

    def _array(self, file: str, digest: str, size: int) -> NDArray[np.float32]:
        if file not in self._arrays:
            if len(self._arrays) > 256:
                self._arrays.clear()
            nll = self.store.read_arrays(file, digest).get("nll")
            if nll is None or nll.shape != (size,) or not np.isfinite(nll).all():
                raise StoreError(
                    f"{self.store.directory / file}: holds no finite losses for {size} tokens; delete the "
                    "run and measure anew."
                )
            self._arrays[file] = nll
        return self._arrays[file]

    def samples(self, cell: Cell) -> list[Sample] | Measured | None:
        """Everything a cell's value is made of; a failure if a part failed; None if a part is not done yet."""
        if cell.metric == "passkey":
            return self._trial_samples(cell)
        if cell.metric == "bits_per_byte" and any(document.utf8_bytes is None for document in self.documents):
            return failed("error", "the tokenizer gives no character offsets, so bytes cannot be counted")
        found = []
        for index, document in enumerate(self.documents):
            parts = {reading: self.losses(cell.fingerprint, index, reading) for reading in cell.readings}
            bad = [part for part in parts.values() if not isinstance(part, np.ndarray)]
            if bad:
                return bad[0]
            found.append(sample(cell, document, parts.__getitem__))  # type: ignore[arg-type]
        return found

    def _trial_samples(self, cell: Cell) -> list[Sample] | Measured | None:
        stored = self.trials.get((cell.fingerprint, cell.length), [])
        asked = self.experiment.metrics.passkey
        if asked is None or len(stored) < asked.trials:
            return None
        bad = next((trial for trial in stored if trial["status"] != "ok"), None)
        if bad is not None:
            return failed(bad["status"], bad["reason"])
        try:
            judged = [float(succeeded(trial)) for trial in stored]
        except (TypeError, ValueError):
            raise self.store.damaged(f"the trials of {cell.fingerprint} at {cell.length}") from None
        return [
            Sample(unit=str(trial["trial"]), numerator=success, denominator=1.0, depth=trial["depth"])
            for trial, success in zip(stored, judged, strict=True)
        ]

    def measure(self, cell: Cell) -> Measured | None:
        """The cell's value from raw outcomes; None if they are not all there yet."""
        samples = self.samples(cell)
        if samples is None or isinstance(samples, Measured):
            return samples
        longppl = self.experiment.metrics.longppl
        return measure(cell, samples, longppl.min_key_tokens if longppl else 1)


def geometry(facts: Mapping[str, Any]) -> RopeGeometry:
    """The geometry that a run recorded."""
    names = (
        "rotary_dim",
        "rope_theta",
        "max_position_embeddings",
        "original_max_position_embeddings",
        "rope_parameters",
        "layer_type",
        "window_override",
    )
    return RopeGeometry(**{name: facts[name] for name in names}, softmax_mscale=facts.get("softmax_mscale", False))


def _documents(store: Store) -> list[DocumentFacts]:
    names = store.rows("SELECT document, id FROM documents ORDER BY document")
    if [index for index, _ in names] != list(range(len(names))):
        raise store.damaged("the table documents")
    digest = store.meta("documents_sha256")
    arrays = store.read_arrays("documents.safetensors", digest) if digest else {}
    return [
        DocumentFacts(
            id=name,
            utf8_bytes=arrays.get(f"{index}.utf8_bytes"),
            key=arrays[f"{index}.key"].astype(bool) if f"{index}.key" in arrays else None,
        )
        for index, name in names
    ]


def write_cells(store: Store, raw: Raw, cells: Iterable[Cell]) -> None:
    """Store the value of every cell whose raw outcomes are all there; call inside a transaction."""
    for cell in cells:
        measured = raw.measure(cell)
        if measured is not None:
            values = dict(row(cell, measured))
            store.insert(
                "cells", values | {"asked": canonical(values["asked"]), "resolved": canonical(values["resolved"])}
            )
