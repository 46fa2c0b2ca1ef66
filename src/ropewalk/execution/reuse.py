"""What another run has measured already: its passes and answers, taken over instead of measured again.

A pass is addressed by its scheme's fingerprint, its document's text and the tokens that it was fed, an answer by the
fingerprint and its request: under the same weights, dtype, kind of device, kernel and versions they are what this run
would measure. Who measured them goes with them.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from ropewalk.errors import StoreError
from ropewalk.execution import canary
from ropewalk.execution.identity import first_difference
from ropewalk.execution.lease import Opening
from ropewalk.execution.worker import Result, Said
from ropewalk.execution.writer import Writer, add_worker
from ropewalk.experiment.devices import kind_of
from ropewalk.experiment.guards import sound
from ropewalk.experiment.opening import sealed
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store
from ropewalk.experiment.todo import Chunk, PassTask, PromptTask, Task
from ropewalk.scoring import Failure

MATTER = ("ropewalk", "torch", "transformers")
"""Versions that passes depend on; those of the tokenizer's packages show in the tokens that are fed."""
BATCH = 64
"""Outcomes per transaction."""
Taken = tuple[tuple[Any, ...], Task, Result]
"""The key of an outcome in the other run, what it is here, and the outcome."""


@dataclass(frozen=True, slots=True, eq=False)
class Other:
    """A run that another one takes outcomes from; nothing in its directory is written."""

    raw: Raw

    @property
    def directory(self) -> Path:
        return self.raw.store.directory

    @classmethod
    @contextlib.contextmanager
    def opened(cls, directory: Path, out: Path, *, exact: bool) -> Iterator[Other]:
        """The run in a directory, for one that is measured in `out`.

        Raises:
            StoreError: there is none, it is `out` itself or of an older schema, or only one of them is exact.
        """
        with contextlib.closing(Store.open_run(directory, read_only=True)) as store, sound(directory):
            if directory.resolve() == out.resolve():
                raise StoreError(f"--reuse {directory}: is --out itself, which goes on without it; leave --reuse out.")
            if store.version == 1:
                raise StoreError(
                    f"--reuse {directory}: was made by an older ropewalk (schema 1), which kept no key of what its "
                    "prompts asked; measure anew without --reuse."
                )
            raw = Raw.read(store)
            there = bool(store.meta("identity")["exact"])
            if there != exact:
                raise _other(directory, "exact", there, exact)
            yield cls(raw)

    def require_alike(self, opening: Opening) -> None:
        """Refuse outcomes that this worker would not have measured itself.

        Raises:
            StoreError: naming the first thing that differs.
        """
        store = self.raw.store
        model, facts = store.meta("model"), opening.facts
        for name in ("weights_sha256", "dtype"):
            if model[name] != opening.model[name]:
                raise _other(self.directory, name, model[name], opening.model[name])
        if store.meta("bos") != opening.bos:
            raise _other(self.directory, "bos", store.meta("bos"), opening.bos)
        for worker in store.workers():
            found, here = _of_worker(worker), _of_worker(facts)
            for name, value in here.items():
                if found[name] != value:
                    raise _other(self.directory, name, found[name], value)
        off = canary.difference(store.meta("canary"), opening.canary)
        if off > (allowed := canary.TOLERANCE[opening.model["dtype"]]):
            raise StoreError(
                f"--reuse {self.directory}: its canary is {off:.3g} nats/token from the one here, where {allowed:g} is "
                "allowed; measure anew without --reuse."
            )

    def require_merged(self, shard: Store) -> None:
        """Refuse what is not made of the shards of the same run that stops by itself.

        Raises:
            StoreError: naming the first thing that differs.
        """
        there, here = ({**store.meta("identity"), "shard": None} for store in (self.raw.store, shard))
        if "shard" in self.raw.store.meta("identity"):
            raise StoreError(f"--reuse {self.directory}: is a shard; merge all shards, and name what that gives.")
        if there != here:
            raise StoreError(
                f"--reuse {self.directory}: is of another run ({first_difference(there, here)}), and the next round "
                "of a shard follows from what all shards of its own measured; name their merged run."
            )

    def of(self, ours: Raw, tasks: Sequence[Task], *, failures: bool = False) -> Iterator[tuple[int, Task, Result]]:
        """Each task that was done there already, as far as it went, with its outcome and who measured it; with
        `failures` also what did not end well, and what took its place."""
        places, who = self._places(ours), self._who()
        for task in tasks:
            if isinstance(task, PassTask):
                found = self._passes(ours, task, places.get(task.document), failures)
            else:
                found = self._answers(ours, task, failures)
            for key, done, result in found:
                yield who[key], done, result

    def _places(self, ours: Raw) -> Mapping[int, int]:
        """Our documents' rows to those of the same text and window there."""
        there = {(row["sha256"], row["start"]): row["document"] for row in self.raw.store.documents()}
        rows = ours.store.documents()
        found = {row["document"]: there.get((row["sha256"], row["start"])) for row in rows}
        return {here: place for here, place in found.items() if place is not None}

    def _who(self) -> Mapping[tuple[Any, ...], int]:
        store = self.raw.store
        passes = ((*_key(row), row["worker"]) for row in store.table("passes"))
        answers = ((row["fingerprint"], row["request"], row["worker"]) for row in store.answers())
        return {tuple(key): worker for *key, worker in (*passes, *answers)}

    def _passes(self, ours: Raw, task: PassTask, place: int | None, failures: bool) -> Iterator[Taken]:
        """The pass that serves a task; or all that was tried in vain, and the shorter ones that took its place."""
        found = self._pass(ours, task, place)
        if found is not None:
            yield found
        if found is not None or place is None or not failures:
            return
        feed = task.feed
        for stop, outcome in self.raw.index.passes.get((feed, place), {}).items():
            key, done = (feed.fingerprint, place, feed.start, int(feed.bos), stop), replace(task, stop=stop)
            if stop in ours.index.passes.get((feed, task.document), {}):
                continue
            if outcome.status != "ok":
                yield key, done, Failure(status=outcome.status, reason=str(outcome.reason))
            elif (shorter := self._pass(ours, done, place)) is not None:
                yield shorter

    def _pass(self, ours: Raw, task: PassTask, place: int | None) -> Taken | None:
        """The pass that reaches at least as far, over the same tokens."""
        longest = ours.experiment.lengths[-1]
        served = None if place is None else self.raw.served(task.feed, place, task.stop)
        if place is None or served is None or served[0] > longest:
            return None
        stop, losses = served
        here, there = (raw.documents[at].arrays["ids"][:stop] for raw, at in ((ours, task.document), (self.raw, place)))
        if not np.array_equal(here, there):
            return None
        feed = task.feed
        key = (feed.fingerprint, place, feed.start, int(feed.bos), stop)
        return key, replace(task, stop=stop), losses

    def _answers(self, ours: Raw, task: PromptTask, failures: bool) -> Iterator[Taken]:
        request = ours.index.prompts[task.metric, task.length][task.place].request
        found, key = self.raw.index.answers.get((task.fingerprint, request)), (task.fingerprint, request)
        if found is None:
            return
        if found.status != "ok":
            if failures:
                yield key, task, Failure(status=found.status, reason=str(found.reason))
            return
        answer = None if found.answer is None else list(found.answer)
        nll = None if found.nll is None else list(found.nll)
        yield key, task, Said(answer=answer, predicted=list(found.predicted), nll=nll, text=found.text)


def take(other: Other, writer: Writer, chunks: Sequence[Chunk], *, failures: bool = False) -> None:
    """Store what another run has measured of the chunks, with who measured it, and record how much that was."""
    numbers: dict[int, int] = {}
    taken: Counter[str] = Counter()
    facts = {worker["worker"]: worker for worker in other.raw.store.workers()}
    found = other.of(writer.raw, [task for chunk in chunks for task in chunk.tasks], failures=failures)
    for worker, own in groupby(found, key=lambda one: one[0]):
        while batch := list(islice(own, BATCH)):
            if worker not in numbers:
                numbers[worker] = add_worker(writer.store, _facts(facts[worker]), facts[worker]["started_at"])
            writer.add(numbers[worker], [(task, result) for _, task, result in batch])
            taken.update("passes" if isinstance(task, PassTask) else "answers" for _, task, _ in batch)
    if taken:
        _record(other, writer.store, taken)


def _record(other: Other, store: Store, taken: Counter[str]) -> None:
    """Keep beside the run what it took from where."""
    said = {
        "run": other.directory.name,
        "started": other.raw.store.meta("started"),
        "sha256": sealed(other.directory),
        "passes": taken["passes"],
        "answers": taken["answers"],
    }
    with store.transaction():
        store.set_meta("reused", [*(store.meta("reused") or ()), said])


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["fingerprint"], row["document"], row["start"], row["bos"], row["stop"]


def _facts(worker: Mapping[str, Any]) -> dict[str, Any]:
    return {name: worker[name] for name in ("device", "attention", "versions")}


def _of_worker(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What of a worker's facts its outcomes depend on."""
    found = {"device": kind_of(facts["device"]), "attention": facts["attention"]}
    return found | {f"version of {name}": facts["versions"].get(name) for name in MATTER}


def _other(directory: Path, name: str, there: Any, here: Any) -> StoreError:
    shown = [value[:16] if name == "weights_sha256" else value for value in (str(there), str(here))]
    return StoreError(
        f"--reuse {directory}: {name} is {shown[0]} there and {shown[1]} here, so its passes are not what this run "
        "would measure; leave --reuse out, or measure as that run did."
    )
