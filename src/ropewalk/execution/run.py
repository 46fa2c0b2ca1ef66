"""Run or resume an experiment in its directory."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ropewalk.errors import StoreError
from ropewalk.execution import canary, local, spans
from ropewalk.execution.executor import Crew, Done, Executor, Fleet, Joined
from ropewalk.execution.identity import first_difference, identity_of, require_ours, require_same
from ropewalk.execution.lease import Opening
from ropewalk.execution.lock import locked
from ropewalk.execution.loggers import Guarded, Logger, guarded
from ropewalk.execution.pace import Pace, Remaining, Stopping
from ropewalk.execution.reuse import Other, take
from ropewalk.execution.shard import Shard, belongs, share
from ropewalk.execution.writer import Writer, add_worker, now
from ropewalk.experiment import deciding, todo
from ropewalk.experiment.devices import kind_of
from ropewalk.experiment.guards import DATABASE, sound
from ropewalk.experiment.opening import seal
from ropewalk.experiment.plan import Plan
from ropewalk.experiment.prepare import Asked, Progress, geometry_facts
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.results import Run
from ropewalk.experiment.schema import Experiment
from ropewalk.experiment.selecting import selected
from ropewalk.experiment.store import Store, canonical
from ropewalk.experiment.todo import Chunk
from ropewalk.model_spec import ModelSpec

_LOG = logging.getLogger(__name__)

ALONE = Fleet()


def sweep(
    asked: Asked,
    out: Path,
    *,
    source: str = "",
    exact: bool = False,
    progress: Progress | None = None,
    executor: Executor = local.EXECUTOR,
    fleet: Fleet = ALONE,
    shard: Shard | None = None,
    until: Stopping | None = None,
    reuse: Path | None = None,
    log: Logger | None = None,
) -> Run:
    """Run or resume an experiment in a directory.

    Args:
        asked: what `ask` returned.
        out: the run directory; new, empty, or of the same experiment.
        source: the experiment file as written, kept for the record.
        exact: float32, eager attention, one row at a time: the slow twin of every fast path.
        progress: told of every finished batch.
        executor: who measures.
        fleet: how many, and where.
        shard: the part of the plan to measure; `merge` puts all parts together.
        until: when to stop; None to measure everything.
        reuse: another run of the same model, whose passes and answers are taken where they are those asked for.
        log: who shows the session elsewhere while it goes on.

    Raises:
        RopewalkError: see `ask`; also if `out` belongs to another experiment or is in use, or `reuse` measured
            otherwise.
    """
    report = progress or (lambda what, done, total: None)
    identity = identity_of(asked, exact, shard, until)
    require_ours(out, identity)
    if Store.exists(out):
        with locked(out):  # rather now than after the model is loaded
            pass
    with contextlib.ExitStack() as held:
        other = None if reuse is None else held.enter_context(Other.opened(reuse, out, exact=exact))
        told = held.enter_context(guarded(log, out, asked.experiment.resolved()))
        report("loading the model", 0, 0)
        crew = held.enter_context(executor.crew(asked, exact, fleet))
        first = crew.first()
        if other is not None:
            other.require_alike(first.opening)
        with locked(out):
            require_ours(out, identity)
            store = Store.open_run(out) if Store.exists(out) else Store.create(out)
            try:
                _require_records(store)
                _begin(store, asked, first.opening, identity, source, until)
                Session(store, asked, crew, report, shard, until, told).run(first, other)
            finally:
                store.close()
                with contextlib.suppress(OSError):  # without it a damaged run cannot be told from a bug, and no more
                    seal(out / DATABASE)
    return Run.open(out) if shard is None else Run.read(out)  # what it lacks, others measure


def begun(out: Path) -> tuple[Experiment, bool, Shard | None, Stopping | None]:
    """The experiment that a run was begun with, whether it is exact, which shard it is, and when it stops by itself.

    Raises:
        StoreError: there is no run, nothing was begun in it, its model was only in memory, or it trusts the code of a
            model's repository: a run directory may come from anybody, and is no consent.
    """
    store = Store.open_run(out, read_only=True)
    with contextlib.closing(store), sound(out):
        experiment = Raw.read(store).experiment
        if ModelSpec.parse(experiment.model).trust_remote_code:
            raise StoreError(
                f"{out}: was made with trust_remote_code, to which a run directory cannot consent; go on with "
                f"`ropewalk run FILE --out {out}`."
            )
        identity = store.meta("identity")
        shard = identity.get("shard")
        stops = identity.get("until")
        until = None if stops is None else Stopping(precision=stops["precision"])
        return experiment, bool(identity["exact"]), None if shard is None else Shard.parse(str(shard)), until


class Session:
    """One go at a run, from the first worker's opening to the last one's end."""

    def __init__(
        self,
        store: Store,
        asked: Asked,
        crew: Crew,
        report: Progress,
        shard: Shard | None,
        until: Stopping | None,
        log: Guarded,
    ) -> None:
        self.store, self.crew, self.report, self.shard, self.log = store, crew, report, shard, log
        self.pace = Pace(None if until is None else until.budget_s)
        self.asked = asked
        self.numbers: dict[int, int] = {}
        self.versions: Mapping[str, Any] | None = None
        self.share: frozenset[Any] | None = None

    def left(self, plan: Plan, index: todo.Index) -> list[Chunk]:
        """What is still to do of what is this session's to do."""
        chunks = todo.todo(plan, index)
        return chunks if self.share is None else belongs(chunks, self.share)

    def next(self, plan: Plan, writer: Writer) -> list[Chunk]:
        """What to measure next: all that is left, or what the next look of a run that stops by itself needs."""
        chunks, state = self.left(plan, writer.index), writer.raw.decide()
        if state is None:
            return chunks
        chunks = deciding.only(chunks, plan, state)
        if not chunks or not self.pace.over(chunks, state):
            return chunks
        with self.store.transaction():
            self.store.set_meta("ended", "budget")
        writer.raw.decide()
        return []

    def run(self, first: Joined, other: Other | None = None) -> None:
        """Do everything that the plan asks for and neither the store nor another run holds."""
        started = time.monotonic()
        fresh = self.store.meta("documents_sha256") is None
        number = self.join(first)
        if fresh:
            self.report("finding key tokens" if self.asked.experiment.key_options else "reading documents", 0, 0)
        facts = self.crew.ask("documents") if fresh else None
        if facts is not None:
            spans.keep_documents(self.store, facts)
        whole = replace(self.asked.plan, documents=len(first.opening.documents))
        raw = Raw.read(self.store)
        plan = selected(whole, raw.samples)
        writer = Writer(self.store, plan, raw)
        for metric, length in dict.fromkeys((each.metric, each.length) for each in plan.prompts):
            writer.add_prompts(metric, length, self.crew.ask("prompts", metric, length))
        if facts is not None and facts.passes:
            writer.add(number, facts.passes)
        every = self.left(plan, todo.Index())
        total = sum(chunk.tokens for chunk in every)
        if self.shard is not None:
            self.share = share(self.crew.ask("layout", every, self.shard.count), self.shard)
            total = sum(chunk.tokens for chunk in self.left(plan, todo.Index()))
        if other is not None:
            writer.expect(chunks := self.left(plan, writer.index))
            take(other, writer, chunks)
        done = total - sum(chunk.tokens for chunk in self.left(plan, writer.index))
        while chunks := self.next(plan, writer):
            writer.expect(chunks if writer.raw.state is None else ())
            remaining = Remaining(chunks)
            for event in self.crew.map(chunks):
                if isinstance(event, Joined):
                    self.join(event)
                elif isinstance(event, Done):
                    self.log.cells(writer.add(self.numbers.get(event.worker, number), event.outcomes))
                    tokens = sum(task.tokens for task, _ in event.outcomes)
                    done += tokens
                    self.pace.fed(tokens, writer.raw.state)
                    self.report(remaining.without(task for task, _ in event.outcomes), done, total)
                    self.log.progress(done, total)
            if len((more := selected(whole, raw.samples)).cells) > len(plan.cells):
                plan, writer = more, Writer(self.store, more, raw)
                total = done + sum(chunk.tokens for chunk in self.left(plan, writer.index))
        self.log.cells(writer.finish())
        self.end(fresh)
        with self.store.transaction():
            self.store.set_meta("wall_s", (self.store.meta("wall_s") or 0.0) + time.monotonic() - started)

    def join(self, joined: Joined) -> int:
        """Record a worker that measures as the run was begun; returns the number that its outcomes carry.

        Raises:
            StoreError: its weights, dtype, kind of device, versions or canary are others.
        """
        opening = joined.opening
        require_same(self.store, self.store.meta("model"), opening.model, joined.name)
        self.versions = self.versions or opening.facts["versions"]
        if (versions := opening.facts["versions"]) != self.versions:
            raise StoreError(
                f"{joined.name}: has other versions ({first_difference(self.versions, versions)}) than the first "
                "worker of this session; install the same ones everywhere."
            )
        canary.check(self.store, opening.canary, "start", joined.name, opening.model["dtype"])
        self.numbers[joined.worker] = number = add_worker(self.store, opening.facts)
        with self.store.transaction():  # every fast path that was left out in this or an earlier session
            left_out = [*(self.store.meta("left_out") or ()), *opening.left_out]
            self.store.set_meta("left_out", list(dict.fromkeys(left_out)))
        return number

    def end(self, fresh: bool) -> None:
        """End every lease, and forget what workers measured whose canary is not what it was.

        Args:
            fresh: whether the documents were read in this session.

        Raises:
            StoreError: naming the first of them.
        """
        wrong: list[StoreError] = []
        dtype = self.store.meta("model")["dtype"]
        for closed in self.crew.close():
            try:
                canary.check(self.store, closed.canary, "end", closed.name, dtype)
            except StoreError as error:
                wrong.append(error)
                with self.store.transaction():
                    self.store.delete_of(self.numbers[closed.worker], documents=fresh)
        if wrong:
            raise wrong[0]


def _require_records(store: Store) -> None:
    """Refuse a run whose records are not of the kinds that a session reads and adds to, before it adds anything.

    Raises:
        StoreError: saying which mistake they lead to.
    """
    with sound(store.directory):
        float(store.meta("wall_s") or 0.0)
        dict.fromkeys(store.meta("left_out") or ())
        dict((store.meta("evaluator") or {}).get("files", {}))
        if (known := store.meta("canary")) is not None:
            canary.difference(known, known)
            list(known["checks"])
        if (model := store.meta("model")) is not None:
            model["weights_sha256"], model["dtype"], kind_of(model["device"])


def _begin(
    store: Store, asked: Asked, opening: Opening, identity: Mapping[str, Any], source: str, until: Stopping | None
) -> None:
    """Record what is run, or check that a resumed run is the same down to weights, dtype and kind of device."""
    known = store.meta("model")
    require_same(store, known, opening.model)
    with store.transaction():
        store.delete_failures()
        for name in store.delete_lost():
            _LOG.warning("%s: %s is gone or torn; it is measured again.", store.directory, name)
        if until is not None:
            store.reopen()
        if known is not None:
            return
        facts = {
            "identity": identity,
            "source": source,
            "model": dict(opening.model),
            "started": now(),
            "geometry": geometry_facts(asked.geometry),
            "bos": opening.bos,
        }
        if until is not None:
            windows = len(opening.documents) // len({each["cluster"] for each in opening.documents})
            plan = replace(asked.plan, documents=len(opening.documents))
            facts |= {"until": deciding.until(asked.experiment, plan, windows, until.precision).plain()}
        for key, value in facts.items():
            store.set_meta(key, value)
        for document in opening.documents:
            store.insert("documents", document)
        for fingerprint, scheme in asked.plan.schemes.items():
            store.insert("schemes", {"fingerprint": fingerprint, "scheme": canonical(scheme.plain())})
