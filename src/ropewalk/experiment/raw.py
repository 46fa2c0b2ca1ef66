"""Raw outcomes of a run, by what they measure, and the cells made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ExperimentError, MethodError, ModelError, StoreError
from ropewalk.experiment import plan as planning
from ropewalk.experiment.cells import Measured, failed, measure, row
from ropewalk.experiment.deciding import State, Until, decide
from ropewalk.experiment.index import Index
from ropewalk.experiment.plan import Cell, Feed, Plan
from ropewalk.experiment.schema import Experiment, stored
from ropewalk.experiment.selecting import selected
from ropewalk.experiment.store import Store, canonical
from ropewalk.metrics.metric import OfDocument, OfPrompt, Prompts, Remark, Sample
from ropewalk.metrics.readings import Reading
from ropewalk.rope import RopeGeometry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Document:
    """A measured document or window of one.

    Attributes:
        id: its own.
        cluster: of the document that it is a window of.
        arrays: facts of its tokens, `[N]` each: `ids`, `utf8_bytes`, `key`; what there is.
    """

    id: str
    cluster: str
    arrays: Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class Raw:
    """Raw outcomes of a run by what they measure; arrays are read when they are asked for and checked by hash.

    `state` is where a run that stops by itself stands; None of all others. `decide` brings it up to date.
    """

    store: Store
    experiment: Experiment
    geometry: RopeGeometry
    documents: list[Document]
    index: Index
    state: State | None = None
    _arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    _known: dict[tuple[str, str, int, int], Sample] = field(default_factory=dict)

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
            raw = cls(store, stored(identity["experiment"]), geometry(facts), _documents(store), Index.read(store))
            raw.decide()
            return raw
        except ModelError:
            raise store.damaged("meta geometry") from None
        except (LookupError, TypeError, ValueError) as error:
            store.require_damaged(error)
            raise store.damaged("meta identity or geometry") from None

    def plan(self) -> Plan:
        """The plan, made again from what the run recorded and, where that decides who is asked, from its outcomes.

        Raises:
            StoreError: that is no plan.
        """
        try:
            configs = planning.configurations(self.experiment.methods)
            plan = planning.make(self.experiment, self.geometry, len(self.documents), configs)
        except (ExperimentError, MethodError, ModelError) as error:
            raise StoreError(f"{self.store.directory}: what it recorded cannot be planned again: {error}") from None
        return selected(plan, self.samples)

    def decide(self) -> State | None:
        """Where a run that stops by itself stands, from its outcomes."""
        recorded = self.store.meta("until")
        if recorded is not None:
            asked = Until(**{each.name: recorded[each.name] for each in fields(Until)})
            self.state = decide(self.plan(), asked, self._value, self._failed, self.store.meta("ended"))
        return self.state

    def _value(self, cell: Cell, place: int) -> Sample | None:
        key = cell.label, cell.metric, cell.length, place
        if key not in self._known:
            made = self._sample(cell, place)
            if not isinstance(made, Sample):
                return None
            self._known[key] = made
        return self._known[key]

    def _failed(self, cell: Cell) -> bool:
        count = cell.needs.first + cell.needs.count if isinstance(cell.needs, Prompts) else len(self.documents)
        return any(self._value(cell, i) is None and self._sample(cell, i) is not None for i in range(count))

    def losses(self, fingerprint: str, document: int, reading: Reading) -> NDArray[np.float32] | Measured | None:
        """Losses of the pass that serves a reading, `[T - 1]`, nats; its failure if the pass that ends where it does
        failed; None if that was not tried yet."""
        feed = Feed(fingerprint=fingerprint, start=reading.start, bos=reading.bos)
        if (found := self.served(feed, document, reading.high)) is not None:
            return found[1]
        outcome = self.index.passes.get((feed, document), {}).get(reading.high)
        return None if outcome is None or outcome.status == "ok" else failed(outcome.status, str(outcome.reason))

    def served(self, feed: Feed, document: int, high: int) -> tuple[int, NDArray[np.float32]] | None:
        """The shortest good pass that reaches token `high`: where it ends, and its losses `[T - 1]`, nats."""
        for stop, outcome in sorted(self.index.passes.get((feed, document), {}).items()):
            if stop >= high and outcome.status == "ok":
                return stop, self._array(str(outcome.file), str(outcome.sha256), stop - feed.start - 1)
        return None

    def _array(self, file: str, digest: str, size: int) -> NDArray[np.float32]:
        """Losses `[size]` out of one file."""
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
        """Per-unit samples of a cell, its failure if any pass failed, or None while a pass is missing."""
        places = self._places(cell)
        if places is None:
            return None
        found = [self._sample(cell, place) for place in places]
        failures = [each for each in found if isinstance(each, Measured)]
        if failures and (self.state is not None or None not in found):
            return failures[0]
        samples = [each for each in found if isinstance(each, Sample)]
        if len(samples) < len(found):
            return None
        if cell.source.gather is not None and isinstance(cell.needs, Prompts):
            return self._gathered(cell, places)
        return samples if isinstance(cell.needs, Prompts) else self._of_clusters(samples)

    def _gathered(self, cell: Cell, places: Sequence[int]) -> list[Sample]:
        """Samples of units that are several prompts each, all of which are there."""
        assert cell.source.gather is not None
        units = [unit for place in places if isinstance(unit := self._prompt(cell, place), OfPrompt)]
        try:
            return list(cell.source.gather(cell.column, cell.options, units))
        except (LookupError, TypeError, ValueError) as error:
            self.store.require_damaged(error)
            raise self.store.damaged(f"an outcome of {cell.label} @ {cell.length} {cell.metric}") from None

    def _places(self, cell: Cell) -> Sequence[int] | None:
        """Rows of the documents, or places of prompts, that a cell is made of; None before it is known which."""
        if self.state is not None:
            look = self.state.look(cell.label)
            return None if self.state.ended is None or look is None else self.state.until.places(cell.needs, look)
        if isinstance(cell.needs, Prompts):
            return range(cell.needs.first, cell.needs.first + cell.needs.count)
        return range(len(self.documents))

    def _sample(self, cell: Cell, place: int) -> Sample | Measured | None:
        """What a document or prompt gives to a cell, its failure, or None if it is not measured yet."""
        unit = self._prompt(cell, place) if isinstance(cell.needs, Prompts) else self._document(cell, place)
        if unit is None or isinstance(unit, Measured):
            return unit
        try:
            made = cell.source.sample(cell.column, cell.options, cell.readings, unit)
        except (LookupError, TypeError, ValueError) as error:
            self.store.require_damaged(error)
            raise self.store.damaged(f"an outcome of {cell.label} @ {cell.length} {cell.metric}") from None
        return failed(made.status, made.reason) if isinstance(made, Remark) else made

    def _of_clusters(self, samples: list[Sample]) -> list[Sample]:
        """The same, each with the document that it is a window of."""
        of = {each.id: each.cluster for each in self.documents}
        return [each if of[each.unit] == each.unit else replace(each, cluster=of[each.unit]) for each in samples]

    def _document(self, cell: Cell, row: int) -> OfDocument | Measured | None:
        document = self.documents[row]
        served = {reading: self.losses(cell.fingerprint, row, reading) for reading in cell.readings}
        bad = [part for part in served.values() if not isinstance(part, np.ndarray)]
        if bad:
            return bad[0]
        good = {reading: part for reading, part in served.items() if isinstance(part, np.ndarray)}
        return OfDocument(id=document.id, arrays=document.arrays, losses=good.__getitem__)

    def _prompt(self, cell: Cell, place: int) -> OfPrompt | Measured | None:
        prompts = self.index.prompts.get((cell.source.name, cell.length), ())
        answer = self.index.answers.get((cell.fingerprint, prompts[place].request)) if place < len(prompts) else None
        if answer is None or answer.status != "ok":
            return None if answer is None else failed(answer.status, str(answer.reason))
        return answer.of(str(place), prompts[place].facts)

    def measure(self, cell: Cell) -> Measured | None:
        """The cell's value from raw outcomes, with why it left if it did; None if they are not all there yet."""
        samples = self.samples(cell)
        if samples is None or isinstance(samples, Measured):
            return samples
        found, said = measure(cell, samples), None if self.state is None else self.state.said(cell.label)
        return found if said is None else replace(found, reason=f"{found.reason}; {said}" if found.reason else said)


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


def _documents(store: Store) -> list[Document]:
    rows = store.documents()
    if [row["document"] for row in rows] != list(range(len(rows))):
        raise store.damaged("the table documents")
    digest = store.meta("documents_sha256")
    arrays = store.read_arrays("documents.safetensors", digest) if digest else {}
    return [Document(id=r["id"], cluster=r["cluster"], arrays=_of_document(arrays, i)) for i, r in enumerate(rows)]


def _of_document(arrays: Mapping[str, NDArray[Any]], index: int) -> dict[str, NDArray[Any]]:
    """The arrays of one document by their own names, in their own shape; flags as bool."""
    own = {name.partition(".")[2]: array for name, array in arrays.items() if name.partition(".")[0] == str(index)}
    return {name: array.astype(bool) if array.dtype == np.uint8 else array for name, array in own.items()}


def write_cells(store: Store, raw: Raw, cells: Iterable[Cell]) -> list[Mapping[str, Any]]:
    """The rows of every cell whose raw outcomes are all there, which it stores; call inside a transaction."""
    written = list[Mapping[str, Any]]()
    for cell in cells:
        measured = raw.measure(cell)
        if measured is not None:
            values = dict(row(cell, measured))
            store.insert(
                "cells", values | {"asked": canonical(values["asked"]), "resolved": canonical(values["resolved"])}
            )
            written.append(values)
    return written
