"""One go at a run: what is left of the plan, measured by a crew and written, until the last worker has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ropewalk.errors import StoreError
from ropewalk.execution import canary, spans
from ropewalk.execution.executor import Crew, Done, Joined
from ropewalk.execution.identity import first_difference, require_same
from ropewalk.execution.loggers import Guarded
from ropewalk.execution.pace import Pace, Remaining, Stopping
from ropewalk.execution.reuse import Other, take
from ropewalk.execution.shard import Shard, belongs, share
from ropewalk.execution.writer import Writer, add_worker
from ropewalk.experiment import deciding, todo
from ropewalk.experiment.plan import Plan
from ropewalk.experiment.prepare import Asked, Progress
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.selecting import selected
from ropewalk.experiment.store import Store
from ropewalk.experiment.todo import Chunk


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
        if state is None or self.shard is not None:
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
        self.deal(plan, raw, other)
        self.take(plan, writer, other)
        self.say_share(plan, writer)
        total = sum(chunk.tokens for chunk in self.left(plan, todo.Index()))
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

    def deal(self, plan: Plan, raw: Raw, other: Other | None) -> None:
        """Find what is this shard's to do: its share of the plan, or of the round that follows in the other run, which
        holds what all shards measured before.

        Raises:
            StoreError: the other run is none of that kind, or is left out where there was one.
        """
        if self.shard is None:
            return
        chunks = todo.todo(plan, todo.Index())
        if raw.state is not None:
            if other is not None:
                other.require_merged(self.store)
            elif self.store.meta("reused"):
                raise StoreError(f"{self.store.directory}: is past its first round; name the merged run with --reuse.")
            state = deciding.at_first(plan, raw.state.until) if other is None else other.raw.state
            assert state is not None
            left = chunks if other is None else todo.todo(plan, other.raw.index)
            chunks = deciding.only(left, plan, state)
        self.share = share(self.crew.ask("layout", chunks, self.shard.count), self.shard)

    def say_share(self, plan: Plan, writer: Writer) -> None:
        """Record how many passes and answers this shard will hold in the end, for who asks how far it is."""
        if self.share is None or writer.raw.state is not None:
            return
        every, own = todo.todo(plan, writer.index), self.left(plan, writer.index)
        others = sum(len(chunk.tasks) for chunk in every) - sum(len(chunk.tasks) for chunk in own)
        with self.store.transaction():
            self.store.set_meta("share", plan.passes - others)

    def take(self, plan: Plan, writer: Writer, other: Other | None) -> None:
        """Take over what another run has measured of what is left; of earlier rounds all, failures included."""
        if other is not None:
            rounds = writer.raw.state is not None and self.shard is not None
            writer.expect(chunks := todo.todo(plan, writer.index) if rounds else self.left(plan, writer.index))
            take(other, writer, chunks, failures=rounds)

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
