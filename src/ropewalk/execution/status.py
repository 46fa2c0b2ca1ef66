"""How far a run is, read from its database while somebody writes it: nothing of the run is touched."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ropewalk.experiment.guards import sound
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store
from ropewalk.experiment.todo import todo

AWAY_S = 600.0
"""A worker whose last outcome is older than the newest by this much counts no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """What a worker has done: passes and answers, those that failed, and outcomes a second since it started."""

    worker: int
    device: str
    outcomes: int
    failures: int
    per_s: float | None
    last: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Passes and answers done and in all (of a shard, of its part), who did them, and the seconds left at the present
    pace."""

    done: int
    total: int
    failures: int
    workers: tuple[Hand, ...]
    left_s: float | None
    silent_s: float | None


def status(directory: Path, now: datetime | None = None) -> Status:
    """The status of a run.

    Raises:
        StoreError: there is none, or nothing is measured yet.
    """
    store = Store.open_run(directory, read_only=True)
    with contextlib.closing(store), sound(directory):
        raw = Raw.read(store)
        plan = raw.plan()
        done = plan.passes - sum(len(chunk.tasks) for chunk in todo(plan, raw.index))
        share = store.meta("share")  # of a shard
        total = plan.passes if share is None else min(plan.passes, max(done, int(share)))
        rows = [*store.table("passes"), *store.table("answers")]
        hands = tuple(_hand(worker, rows) for worker in store.workers())
        last = max((hand.last for hand in hands if hand.last), default=None)
        present = [hand.per_s for hand in hands if hand.per_s and hand.last and _between(hand.last, last) < AWAY_S]
        return Status(
            done=done,
            total=total,
            failures=sum(hand.failures for hand in hands),
            workers=hands,
            left_s=(total - done) / sum(present) if present else None,
            silent_s=_between(last, (now or datetime.now(UTC)).isoformat()) if last else None,
        )


def _between(one: str | None, other: str | None) -> float:
    return (datetime.fromisoformat(str(other)) - datetime.fromisoformat(str(one))).total_seconds()


def _hand(worker: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Hand:
    own = [row for row in rows if row.get("worker", 1) == worker["worker"]]
    last = max((row["finished_at"] for row in own), default=None)
    seconds = _between(worker["started_at"], last) if last else 0.0
    return Hand(
        worker=worker["worker"],
        device=worker["device"],
        outcomes=len(own),
        failures=sum(row["status"] != "ok" for row in own),
        per_s=len(own) / seconds if seconds > 0 else None,
        last=last,
    )


def lines(found: Status) -> list[str]:
    """The same for people."""
    said = [f"{found.done} of {found.total} passes and answers done, {found.failures} failed"]
    if found.silent_s is not None:
        said[0] += f"; last outcome {found.silent_s:.0f} s ago"
    if found.left_s and found.done < found.total:
        said[0] += f"; {found.left_s:.0f} s left at this pace"
    slowest = min((hand for hand in found.workers if hand.per_s), key=lambda hand: hand.per_s or 0.0, default=None)
    for hand in (each for each in found.workers if each.outcomes or found.done < found.total):
        pace = f"{hand.per_s:.2f} a second" if hand.per_s else "none yet" if not hand.outcomes else "in under a second"
        mark = "  (slowest)" if hand is slowest and len(found.workers) > 1 else ""
        failed = f", {hand.failures} failed" if hand.failures else ""
        said.append(f"worker {hand.worker} on {hand.device}: {hand.outcomes} outcomes, {pace}{failed}{mark}")
    return said
