"""Recompute what a run reports from what it stores: every value, judgement and key token.

Not covered, because nothing in the run determines them: times, versions, the experiment file as written, and what was
recorded of the machine. `rerun` covers the documents, the model, and a sample of the raw outcomes themselves.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ropewalk.errors import StoreError
from ropewalk.experiment.cells import Measured, row
from ropewalk.experiment.judge import succeeded
from ropewalk.experiment.keys import evaluator_file, spans_of
from ropewalk.experiment.plan import Cell
from ropewalk.experiment.prepare import geometry_facts
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.results import CELL_COLUMNS
from ropewalk.experiment.schema import Passkey
from ropewalk.experiment.store import DOCUMENTS, Store, canonical, sound
from ropewalk.experiment.trials import yarn_keys
from ropewalk.metrics import passkey
from ropewalk.metrics.longppl import KeyRule
from ropewalk.rope import Rotation


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


def verify_rows(directory: Path) -> tuple[int, list[Mismatch]]:
    """Recompute every reported cell from raw outcomes; returns how many were recomputed, and what differs.

    Where the raw outcomes themselves are not what was written, only that is said.
    """
    store = Store.open_run(directory, read_only=True)
    with contextlib.closing(store), sound(directory):
        wrong = list(_files(store))
        if wrong:
            return 0, wrong
        raw = Raw.read(store)
        plan = raw.plan()
        wrong = [*_facts(raw), *_rotations(store, plan.rotations), *_keys(raw), *_trials(raw)]
        if wrong:
            return 0, wrong
        reported = {(r[0], r[4], r[5]): r for r in store.rows(f"SELECT {', '.join(CELL_COLUMNS)} FROM cells")}
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
    for name, digest in raw.store.rows("SELECT id, sha256 FROM documents"):
        if digest not in asked:
            yield Mismatch(what=f"document {name}: sha256", stored=digest, found=f"none of those asked for: {asked}")
    for table in ("passes", "trials"):
        for (reason,) in raw.store.rows(f"SELECT reason FROM {table} WHERE status = 'ok' AND reason IS NOT NULL"):
            yield Mismatch(what=f"{table}: reason of a good one", stored=reason, found=None)


def _rotations(store: Store, expected: Mapping[str, Rotation]) -> Iterator[Mismatch]:
    """Rotations that are not what their fingerprint says; powers differ in the last bit between processors."""
    rows = store.rows("SELECT * FROM rotations")  # older runs have no softmax_factor, and it was 1
    stored = {name: (store.parsed(text, f"rotation {name}"), *factors, 1.0)[:3] for name, text, *factors in rows}
    for name in stored.keys() | expected.keys():
        rotation, found = expected.get(name), stored.get(name)
        if rotation is None or found is None:
            yield Mismatch(what=f"rotation {name}", stored=found, found=rotation)
        elif not _close(found, rotation):
            values = (rotation.inv_freq.tolist(), rotation.attention_factor, rotation.softmax_factor)
            yield Mismatch(what=f"rotation {name}", stored=found, found=values)


def _close(stored: tuple[Any, ...], rotation: Rotation) -> bool:
    inv_freq, factor, softmax_factor = stored
    same_size = len(inv_freq) == rotation.inv_freq.size
    return (
        same_size
        and np.allclose(inv_freq, rotation.inv_freq, rtol=1e-14, atol=0)
        and math.isclose(factor, rotation.attention_factor, rel_tol=1e-14)
        and math.isclose(softmax_factor, rotation.softmax_factor, rel_tol=1e-14)
    )


def _keys(raw: Raw) -> Iterator[Mismatch]:
    """Key spans out of the evaluator's losses."""
    longppl, evaluator = raw.experiment.metrics.longppl, raw.store.meta("evaluator")
    if longppl is None or evaluator is None:
        return
    rule = KeyRule(trunc_len=longppl.trunc_len, stride=longppl.stride, alpha=longppl.alpha, beta=longppl.beta)
    for index, stored in enumerate(raw.store.meta("key_spans")):
        name = evaluator_file(index)
        found = [list(span) for span in spans_of(raw.store.read_arrays(name, evaluator["files"][name]), rule)]
        if stored["spans"] != found:
            yield Mismatch(what=f"key spans of document {index}", stored=stored["spans"], found=found)
        found = {name: stored[name] for name in asdict(rule)}
        if found != asdict(rule):
            yield Mismatch(what=f"key spans of document {index}: thresholds", stored=found, found=asdict(rule))


def _trials(raw: Raw) -> Iterator[Mismatch]:
    """Keys out of the seed, success out of what the model said; depths need the tokenizer (`rerun`)."""
    asked = raw.experiment.metrics.passkey
    for (fingerprint, length), group in raw.trials.items():
        expected = dict(enumerate(_asked_keys(asked, length, raw.experiment.seed) if asked else ()))
        for trial in group:
            name = f"passkey {fingerprint} @ {length} trial {trial['trial']}"
            if expected.get(trial["trial"]) != trial["key"]:
                yield Mismatch(what=f"{name}: key", stored=trial["key"], found=expected.get(trial["trial"]))
            if trial["status"] == "ok" and _judged(trial) != trial["success"]:
                yield Mismatch(what=f"{name}: success", stored=trial["success"], found=_judged(trial))


def _asked_keys(asked: Passkey, length: int, seed: int) -> list[str]:
    if asked.protocol == "yarn":
        return [key for key, _ in yarn_keys(asked.trials, length, seed)]
    return passkey.keys(asked.trials, length, seed)


def _judged(trial: dict[str, Any]) -> int | None:
    try:
        return int(succeeded(trial))
    except (TypeError, ValueError):
        return None


def _compare(cell: Cell, stored: tuple[Any, ...] | None, measured: Measured | None) -> list[Mismatch]:
    name = f"{cell.label} @ {cell.length} {cell.metric}"
    if stored is None or measured is None:
        return [Mismatch(what=name, stored=stored and "a value", found=measured and "a value")]
    expected = row(cell, measured)
    wrong = []
    for column, value in zip(CELL_COLUMNS, stored, strict=True):
        found = canonical(expected[column]) if column in ("asked", "resolved") else expected[column]
        same = value == found or (
            isinstance(value, float) and isinstance(found, float) and math.isclose(value, found, rel_tol=1e-12)
        )
        if not same:
            wrong.append(Mismatch(what=f"{name}: {column}", stored=value, found=found))
    return wrong
