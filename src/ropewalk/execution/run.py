"""Run or resume an experiment in its directory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ropewalk.errors import StoreError
from ropewalk.execution import canary, local
from ropewalk.execution.executor import Executor, Fleet, require_spread
from ropewalk.execution.identity import identity_of, require_ours, require_same
from ropewalk.execution.lease import Opening
from ropewalk.execution.lock import locked
from ropewalk.execution.loggers import Logger, guarded
from ropewalk.execution.pace import Stopping
from ropewalk.execution.reuse import Other
from ropewalk.execution.session import Session
from ropewalk.execution.shard import Shard
from ropewalk.execution.writer import now
from ropewalk.experiment import deciding
from ropewalk.experiment.devices import kind_of
from ropewalk.experiment.guards import DATABASE, sound
from ropewalk.experiment.opening import seal
from ropewalk.experiment.prepare import Asked, Progress, geometry_facts
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.results import Run
from ropewalk.experiment.schema import Experiment
from ropewalk.experiment.store import Store, canonical
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
        shard: the part of the plan to measure, or of the next round of a run that stops by itself; `merge` puts all
            parts together.
        until: when to stop; None to measure everything.
        reuse: another run of the same model, whose passes and answers are taken where they are those asked for.
        log: who shows the session elsewhere while it goes on.

    Raises:
        RopewalkError: see `ask`; also if `out` belongs to another experiment or is in use, or `reuse` measured
            otherwise.
    """
    report = progress or (lambda what, done, total: None)
    require_spread(fleet, asked.spec)
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


def is_finished(out: Path) -> bool:
    """Whether going on with a run would measure nothing: every cell is there, nothing failed, no raw file is lost, and
    its last session came to its end."""
    store = Store.open_run(out, read_only=True)
    with contextlib.closing(store), sound(out):
        checks = (store.meta("canary") or {"checks": []})["checks"]
        ended = bool(checks) and checks[-1]["when"] == "end"
        return ended and store.is_whole() and not Run.read(out).missing.cells


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
