"""Run or resume an experiment in its directory."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ropewalk.errors import ExperimentError, StoreError
from ropewalk.execution import canary, local, spans
from ropewalk.execution.worker import Worker, ready
from ropewalk.execution.writer import Writer, now
from ropewalk.experiment import deciding, todo
from ropewalk.experiment.deciding import State
from ropewalk.experiment.opening import seal
from ropewalk.experiment.plan import Plan
from ropewalk.experiment.prepare import Asked, Prepared, Progress, document_row, geometry_facts, prepare
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import DATABASE, LOCK, Store, canonical, require_empty, writing
from ropewalk.files import open_own

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """That a run stops by itself: as soon as the best is known, or at a precision (per cent, or points of a share).

    Attributes:
        budget_s: no round is begun that would end later in this session, at its pace so far; None for no end.
    """

    precision: float | None = None
    budget_s: float | None = None


def sweep(
    asked: Asked,
    out: Path,
    *,
    source: str = "",
    exact: bool = False,
    progress: Progress | None = None,
    until: Stopping | None = None,
) -> Run:
    """Run or resume an experiment in a directory.

    Args:
        asked: what `ask` returned.
        out: the run directory; new, empty, or of the same experiment.
        source: the experiment file as written, kept for the record.
        exact: float32, eager attention, one row at a time: the slow twin of every fast path.
        progress: told of every finished batch.
        until: when to stop; None to measure everything.

    Raises:
        RopewalkError: see `ask`; also if `out` belongs to another experiment or is in use.
    """
    report = progress or (lambda what, done, total: None)
    identity = _identity(asked, exact, until)
    _require_ours(out, identity)
    if Store.exists(out):
        with locked(out):  # rather now than after the model is loaded
            pass
    report("loading the model", 0, 0)
    prepared = prepare(asked, exact=exact)
    with locked(out):
        _require_ours(out, identity)
        store = Store.open_run(out) if Store.exists(out) else Store.create(out)
        try:
            _begin(store, prepared, identity, source, until)
            started = time.monotonic()
            with ready(prepared, exact=exact) as worker, canary.watched(store, worker):
                with store.transaction():  # every fast path that was left out in this or an earlier session
                    left_out = [*(store.meta("left_out") or ()), *worker.parts.left_out]
                    store.set_meta("left_out", list(dict.fromkeys(left_out)))
                _measure(store, worker, report, None if until is None else until.budget_s)
            with store.transaction():
                store.set_meta("wall_s", (store.meta("wall_s") or 0.0) + time.monotonic() - started)
        finally:
            store.close()
            with contextlib.suppress(OSError):  # without it a damaged run cannot be told from a bug, and no more
                seal(out / DATABASE)
    return Run.open(out)


def _measure(store: Store, worker: Worker, report: Progress, budget_s: float | None = None) -> None:
    """Do everything that the plan asks for and the store does not hold, or all that it takes to decide."""
    found = spans.keep_documents(store, worker, report)
    plan = worker.prepared.plan
    writer = Writer(store, plan, Raw.read(store))
    number = writer.add_worker(worker.facts)
    for each in plan.prompts:
        writer.add_prompts(each.metric, each.length, worker.prompts(each.metric, each.length))
    if found:
        writer.add(number, found)
    done = plan.tokens - sum(chunk.tokens for chunk in todo.todo(plan, writer.index))
    pace = Pace(budget_s)
    while chunks := _left(plan, writer):
        if pace.over(chunks, writer.raw.state):
            with store.transaction():
                store.set_meta("ended", "budget")
            writer.raw.decide()
            break
        writer.expect(chunks if writer.raw.state is None else ())
        for batch in local.run(worker, chunks):
            writer.add(number, batch)
            tokens = sum(task.tokens for task, _ in batch)
            done += tokens
            pace.fed(tokens, writer.raw.state)
            report(batch[0][0].said, done, plan.tokens)
    writer.finish()


def _left(plan: Plan, writer: Writer) -> list[todo.Chunk]:
    """What is to do next: all that is left, or what the next look of a run that stops by itself needs."""
    chunks, state = todo.todo(plan, writer.index), writer.raw.decide()
    return chunks if state is None else deciding.only(chunks, plan, state)


class Pace:
    """How fast a session goes, and whether another round fits its budget."""

    def __init__(self, budget_s: float | None) -> None:
        self.budget_s, self.started, self.tokens, self.round = budget_s, time.monotonic(), 0, 0

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.started

    def over(self, chunks: Sequence[todo.Chunk], state: State | None) -> bool:
        """Whether a round would end after the budget. What it is made of is taken note of."""
        self.round = sum(chunk.tokens for chunk in chunks)
        if self.budget_s is None or state is None or state.step.look is None:
            return False
        return self.spent_s + self.round * (self.spent_s / self.tokens if self.tokens else 0.0) > self.budget_s

    def fed(self, tokens: int, state: State | None) -> None:
        """Take note of a batch.

        Raises:
            ExperimentError: the budget is spent, and the run's first round is not done.
        """
        self.tokens += tokens
        if self.budget_s is None or state is None or state.step.look is not None:
            return
        if self.spent_s > self.budget_s and self.tokens < self.round:
            needed = self.spent_s * self.round / self.tokens
            raise ExperimentError(
                f"--budget {self.budget_s:.0f}s: one round takes about {needed:.0f} s, and nothing can be judged "
                "before it is done; give more, or run again: finished work is kept."
            )


def _identity(asked: Asked, exact: bool, until: Stopping | None) -> Mapping[str, Any]:
    stops: dict[str, Any] = {} if until is None else {"until": {"decided": True, "precision": until.precision}}
    return stops | {
        "experiment": asked.experiment.resolved(),
        "exact": exact,
        "documents": [document.sha256 for document in asked.documents],
    }


def _require_ours(out: Path, identity: Mapping[str, Any]) -> None:
    """Refuse a directory that holds something else."""
    if not Store.exists(out):
        require_empty(out)
        return
    store = Store.open_run(out)  # its writer may undo a commit that a kill cut short
    try:
        found = store.meta("identity")
    finally:
        store.close()
    if found is not None and found != identity:
        differs = first_difference(found, identity)
        raise StoreError(f"{out}: holds another experiment ({differs}); choose another --out, it is never overwritten.")


def first_difference(found: Any, asked: Any, path: str = "") -> str:
    """The first key in which two identities differ, with both values."""
    if isinstance(found, Mapping) and isinstance(asked, Mapping):
        for key in [*found, *asked]:
            if found.get(key) != asked.get(key):
                return first_difference(found.get(key), asked.get(key), f"{path}.{key}" if path else str(key))
    there, here = (repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..." for value in (found, asked))
    return f"{path.removeprefix('experiment.')} is {there} there and {here} here"


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """One process at a time writes to a run directory."""
    with contextlib.ExitStack() as held:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(os.fdopen(open_own(out, LOCK), "r+"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = lock.read(200).strip() or "another process"
                raise StoreError(f"{out}: is in use by {owner}; wait for it, or choose another --out.") from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
        yield


def _begin(store: Store, prepared: Prepared, identity: Mapping[str, Any], source: str, until: Stopping | None) -> None:
    """Record what is run, or check that a resumed run is the same down to weights, dtype and device."""
    model = asdict(prepared.model.provenance)
    known = store.meta("model")
    for name in ("weights_sha256", "dtype", "device"):
        if known is not None and known[name] != model[name]:
            raise StoreError(
                f"{store.directory}: was made with {name} {known[name]}, now it is {model[name]}; choose another --out."
            )
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
            "model": model,
            "started": now(),
            "geometry": geometry_facts(prepared.asked.geometry),
            "bos": prepared.tokens[0].bos,
        }
        if until is not None:
            windows = len(prepared.tokens) // len({tokens.document.id for tokens in prepared.tokens})
            decides = deciding.until(prepared.asked.experiment, prepared.plan, windows, until.precision)
            facts |= {"until": decides.plain()}
        for key, value in facts.items():
            store.set_meta(key, value)
        for index, tokens in enumerate(prepared.tokens):
            store.insert("documents", document_row(index, tokens))
        for fingerprint, scheme in prepared.plan.schemes.items():
            store.insert("schemes", {"fingerprint": fingerprint, "scheme": canonical(scheme.plain())})
