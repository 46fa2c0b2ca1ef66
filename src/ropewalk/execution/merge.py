"""One run out of the shards of one experiment: the store that a single run would have written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ropewalk.errors import StoreError
from ropewalk.execution import canary
from ropewalk.execution.identity import first_difference, other
from ropewalk.execution.shard import Shard
from ropewalk.execution.writer import Writer
from ropewalk.experiment.guards import require_empty, sound, writing
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import DOCUMENTS, Store, canonical

KEYS = {"passes": ("fingerprint", "document", "start", "bos", "stop"), "answers": ("fingerprint", "request")}


def merge(directories: Sequence[Path], out: Path) -> Run:
    """Put the shards of a run together in a new directory; they stay as they are.

    Raises:
        StoreError: a shard is missing, or shards are of different experiments, weights, kinds of device or canaries;
            nothing is written then.
    """
    require_empty(out)
    with ExitStack() as stack:
        shards = [Store.open_run(directory, read_only=True) for directory in directories]
        for shard in shards:
            stack.callback(shard.close)
        _require_whole(shards)
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        stack.callback(shutil.rmtree, made, ignore_errors=True)
        with sound(shards[0].directory):
            _write(shards, made)
        with writing(out):
            made.chmod(0o777 & ~_umask())
            os.replace(made, out)
    return Run.open(out)


def _umask() -> int:
    found = os.umask(0o022)
    os.umask(found)
    return found


def _require_whole(shards: Sequence[Store]) -> None:
    """Refuse what is not all shards of one experiment under one model on one kind of device."""
    parts = dict[int, Path]()
    for store in shards:
        with sound(store.directory):
            parts[_part(store, shards[0], parts)] = store.directory
    count = Shard.parse(shards[0].meta("identity")["shard"]).count
    if missing := [place for place in range(1, count + 1) if place not in parts]:
        raise StoreError(f"merge: shard {missing[0]}/{count} is missing; run it, and name its directory too.")


def _part(store: Store, first: Store, parts: Mapping[int, Path]) -> int:
    """Which shard it is, if it is of the first one's run and not among the `parts` that are there."""
    known, identity = first.meta("identity"), store.meta("identity")
    if identity is None or "shard" not in identity:
        raise StoreError(f"{store.directory}: is no shard; name directories that `ropewalk run --shard` made.")
    if (rest := identity | {"shard": None}) != (expected := known | {"shard": None}):
        raise StoreError(
            f"{store.directory}: is a shard of another experiment than {first.directory} "
            f"({first_difference(expected, rest)}); name shards of one experiment."
        )
    part, count = (int(number) for number in identity["shard"].split("/"))
    if count != Shard.parse(known["shard"]).count or part in parts:
        raise StoreError(
            f"{store.directory}: is shard {identity['shard']}, and {parts.get(part, first.directory)} is "
            f"{known['shard'] if part not in parts else identity['shard']}; name every shard of one run, once."
        )
    if (name := other(first.meta("model"), store.meta("model"))) is not None:
        raise StoreError(
            f"{store.directory}: was measured with {name} {store.meta('model')[name]}, and {first.directory} with "
            f"{first.meta('model')[name]}; measure every shard with the same model on one kind of device."
        )
    off = canary.difference(first.meta("canary"), store.meta("canary"))
    if off > canary.TOLERANCE[first.meta("model")["dtype"]]:
        raise StoreError(
            f"{store.directory}: its canary is {off:.3g} nats/token from that of {first.directory}; measure it "
            "again on a device that computes as the others do."
        )
    if store.meta("documents_sha256") != first.meta("documents_sha256"):
        raise StoreError(f"{store.directory}: found other key tokens or documents than {first.directory} did.")
    return part


def _write(shards: Sequence[Store], made: Path) -> None:
    shards = sorted(shards, key=lambda store: Shard.parse(store.meta("identity")["shard"]).place)
    first, store = shards[0], Store.create(made)
    try:
        with store.transaction():
            for key, value in _meta(shards).items():
                store.set_meta(key, value)
            for table in ("documents", "schemes", "prompts"):
                for row in first.table(table):
                    store.insert(table, row)
            known = {table: set[tuple[Any, ...]]() for table in KEYS}
            for shard in shards:
                with sound(shard.directory):
                    _add(store, shard, known)
        for name, digest in _documents(first).items():
            store.write_arrays(name, first.read_arrays(name, digest))
        raw = Raw.read(store)
        Writer(store, raw.plan(), raw).finish()
    finally:
        store.close()


def _meta(shards: Sequence[Store]) -> Mapping[str, Any]:
    """What is known of the run: the first shard's word, and of each shard what it did itself."""
    first = shards[0]
    names = ("source", "model", "started", "geometry", "bos", "documents_sha256", "key_spans", "evaluator")
    identity = {key: value for key, value in first.meta("identity").items() if key != "shard"}
    kept = {"identity": identity} | {name: first.meta(name) for name in names}
    checks = [check for shard in shards for check in shard.meta("canary")["checks"]]
    kept["canary"] = first.meta("canary") | {"checks": checks}
    if (until := first.meta("until")) is not None:
        kept["until"] = until
    kept["left_out"] = list(dict.fromkeys(note for shard in shards for note in shard.meta("left_out") or ()))
    kept["wall_s"] = sum(shard.meta("wall_s") or 0.0 for shard in shards)
    return kept


def _documents(store: Store) -> Mapping[str, str]:
    return {DOCUMENTS: store.meta("documents_sha256")} | (store.meta("evaluator") or {}).get("files", {})


def _add(store: Store, shard: Store, known: dict[str, set[tuple[Any, ...]]]) -> None:
    """What a shard measured that those before it did not, and who did; call inside `transaction`."""
    own = [(table, row) for table in KEYS for row in shard.table(table) if _key(table, row) not in known[table]]
    adding, before = {row["worker"] for _, row in own}, store.count("workers")
    numbers: dict[int, int] = {}
    for row in shard.workers():
        if row["worker"] in adding:
            numbers[row["worker"]] = before + len(numbers) + 1
            values = {"worker": numbers[row["worker"]], "versions": canonical(row["versions"])}
            store.insert("workers", row | values)
    for table, row in own:
        known[table].add(_key(table, row))
        if row.get("file"):
            store.write_arrays(row["file"], shard.read_arrays(row["file"], row["sha256"]))
        store.insert(table, row | {"worker": numbers[row["worker"]]})


def _key(table: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEYS[table])
