"""Recompute what a run reports from what it stores: every value, judgement and key token.

Not covered, because nothing in the run determines them: times, versions, the experiment file as written, and what was
recorded of the machine. `rerun` covers the documents, the model, and a sample of the raw outcomes themselves.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ropewalk.errors import StoreError
from ropewalk.experiment import older
from ropewalk.experiment.cells import Measured, row
from ropewalk.experiment.deciding import until
from ropewalk.experiment.guards import sound
from ropewalk.experiment.missing import Missing
from ropewalk.experiment.plan import Cell, Plan
from ropewalk.experiment.prepare import geometry_facts
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.run_data import RunData
from ropewalk.experiment.store import DOCUMENTS, Store, canonical
from ropewalk.metrics.key_tokens import KeyRule, evaluator_file, spans_of
from ropewalk.scheme import Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Something that is not as stored."""

    what: str
    stored: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.what}: stored {_short(self.stored)}, recomputed {_short(self.found)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def verify_rows(directory: Path, lacks: Callable[[Missing], None] = lambda found: None) -> tuple[int, list[Mismatch]]:
    """The number of reported cells that were recomputed from raw outcomes, and what differs.

    Where the raw outcomes themselves are not what was written, only that is said. `lacks` is told which cells are not
    measured yet, unless the run is too damaged to say.
    """
    store = Store.open_run(directory, read_only=True)
    with contextlib.closing(store), sound(directory):
        wrong = list(_files(store))
        try:
            data = RunData.of(store)
        except StoreError:
            if not wrong:
                raise
            return 0, wrong
        lacks(data.missing)
        raw, plan = data.raw, data.plan
        wrong = wrong or [*_facts(raw), *_schemes(data.schemes, plan.schemes), *_keys(raw), *_prompts(raw, plan)]
        if wrong:
            return 0, wrong
        reported = {(r["label"], r["length"], r["metric"]): r for r in data.cells}
        values = [(cell, raw.measure(cell)) for cell in plan.cells]
        unfinished = any(measured is None for _, measured in values)
        recomputed = 0
        for cell, measured in values:
            stored = reported.pop((cell.label, cell.length, cell.metric), None)
            if stored is not None or not (measured is None or unfinished):  # a cell comes with all of its rotation
                wrong += _compare(cell, stored, measured)
                recomputed += stored is not None and measured is not None
        wrong += [Mismatch(what=f"{k[0]} @ {k[1]} {k[2]}", stored="a cell", found="not in the plan") for k in reported]
        return recomputed, wrong


def _files(store: Store) -> Iterator[Mismatch]:
    """Raw files that are missing or not what was written."""
    files = dict(store.rows("SELECT file, sha256 FROM passes WHERE status = 'ok'"))
    files |= {DOCUMENTS: store.meta("documents_sha256")} if store.meta("documents_sha256") is not None else {}
    files |= (store.meta("evaluator") or {}).get("files", {})
    for name, digest in files.items():
        try:
            store.read_arrays(str(name), str(digest))
        except StoreError as error:
            yield Mismatch(what=f"raw file {name}", stored=digest, found=str(error))


def _facts(raw: Raw) -> Iterator[Mismatch]:
    """What the run records twice."""
    facts = raw.store.meta("geometry")
    if facts != geometry_facts(raw.geometry):
        yield Mismatch(what="meta geometry", stored=facts, found=geometry_facts(raw.geometry))
    asked = raw.store.meta("identity").get("documents")
    yield from _until(raw)
    for name, digest in raw.store.rows("SELECT id, sha256 FROM documents"):
        if digest not in asked:
            yield Mismatch(what=f"document {name}: sha256", stored=digest, found=f"none of those asked for: {asked}")
    for table in ("passes", "answers" if raw.store.version > 1 else "trials"):
        for (reason,) in raw.store.rows(f"SELECT reason FROM {table} WHERE status = 'ok' AND reason IS NOT NULL"):
            yield Mismatch(what=f"{table}: reason of a good one", stored=reason, found=None)


def _until(raw: Raw) -> Iterator[Mismatch]:
    """What decides when a run stops, and the looks that follow."""
    stops, stored = raw.store.meta("identity").get("until"), raw.store.meta("until")
    if stops is None and stored is None:
        return
    windows = len(raw.documents) // len({each.cluster for each in raw.documents})
    found = until(raw.experiment, raw.plan(), windows, (stops or {}).get("precision")).plain()
    if stored != found or stops is None:
        yield Mismatch(what="meta until", stored=stored, found=found)


def _schemes(stored: Mapping[str, Mapping[str, Any]], expected: Mapping[str, Scheme]) -> Iterator[Mismatch]:
    """Schemes that are not what their fingerprint says; powers differ in the last bit between processors."""
    for name in stored.keys() | expected.keys():
        scheme, found = expected.get(name), stored.get(name)
        if scheme is None or found is None or not _close(found, scheme.plain()):
            yield Mismatch(what=f"scheme {name}", stored=found, found=scheme and scheme.plain())


def _close(stored: Mapping[str, Any], expected: dict[str, Any]) -> bool:
    there, here = stored.get("rotation") or {}, expected["rotation"]
    return (
        {**stored, "rotation": None} == {**expected, "rotation": None}
        and len(there.get("inv_freq") or ()) == len(here["inv_freq"])
        and np.allclose(there["inv_freq"], here["inv_freq"], rtol=1e-14, atol=0)
        and all(math.isclose(there[name], here[name], rel_tol=1e-14) for name in ("attention_factor", "softmax_factor"))
    )


def _keys(raw: Raw) -> Iterator[Mismatch]:
    """Key spans out of the evaluator's losses."""
    asked, evaluator = raw.experiment.key_options, raw.store.meta("evaluator")
    if asked is None or evaluator is None:
        return
    rule = KeyRule.of(asked)
    for index, stored in enumerate(raw.store.meta("key_spans")):
        name = evaluator_file(index)
        found = [list(span) for span in spans_of(raw.store.read_arrays(name, evaluator["files"][name]), rule)]
        if stored["spans"] != found:
            yield Mismatch(what=f"key spans of document {index}", stored=stored["spans"], found=found)
        found = {name: stored[name] for name in asdict(rule)}
        if found != asdict(rule):
            yield Mismatch(what=f"key spans of document {index}: thresholds", stored=found, found=asdict(rule))


def _prompts(raw: Raw, plan: Plan) -> Iterator[Mismatch]:
    """What is known of prompts without a tokenizer, such as keys; and the successes that schema 1 stores."""
    asked = {metric.name: (metric, options) for metric, options in raw.experiment.asked()}
    counts: dict[tuple[str, int], int] = {}
    for each in plan.prompts:
        key = each.metric, each.length
        counts[key] = max(counts.get(key, 0), each.prompts.first + each.prompts.count)
    for each in {(each.metric, each.length): each for each in plan.prompts}.values():
        metric, options = asked[each.metric]
        stored = raw.index.prompts.get((each.metric, each.length), ())
        there = len(stored) >= counts[each.metric, each.length]  # they are stored all at once, and made in seconds
        expected = metric.facts(options, each.length, raw.experiment.seed) if metric.facts and there else None
        for place, prompt in enumerate(stored):
            known = expected[place] if expected is not None and place < len(expected) else None
            if known is not None and {name: prompt.facts.get(name) for name in known} != dict(known):
                yield Mismatch(what=f"{each.metric} @ {each.length} prompt {place}", stored=prompt.facts, found=known)
            if place >= counts[each.metric, each.length]:
                yield Mismatch(what=f"{each.metric} @ {each.length} prompt {place}", stored=prompt.facts, found=None)
    if raw.store.version == 1:
        for name, success in older.wrong_successes(raw):
            yield Mismatch(what=name, stored=success, found=not success)


def _compare(cell: Cell, stored: Mapping[str, Any] | None, measured: Measured | None) -> list[Mismatch]:
    name = f"{cell.label} @ {cell.length} {cell.metric}"
    if stored is None or measured is None:
        return [Mismatch(what=name, stored=stored and "a value", found=measured and "a value")]
    expected = row(cell, measured)
    wrong = []
    for column, value in stored.items():
        found = expected[column]
        if column in ("asked", "resolved"):  # 4 and 4.0 are not the same parameter
            value, found = canonical(value), canonical(found)
        same = value == found or (
            isinstance(value, float) and isinstance(found, float) and math.isclose(value, found, rel_tol=1e-12)
        )
        if not same:
            wrong.append(Mismatch(what=f"{name}: {column}", stored=value, found=found))
    return wrong
