"""Runs of schema 1, read and not written: they kept rotations alone, knew prompts as trials of one metric, and one
worker for all passes. What stands here gives their rows as today's tables have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ropewalk.experiment.schema import stored
from ropewalk.experiment.tables import CELLS, DOCUMENTS, canonical
from ropewalk.metrics.probes import Probing, probing

if TYPE_CHECKING:
    from ropewalk.experiment.raw import Raw
    from ropewalk.experiment.store import Store

Row = dict[str, Any]
TABLES = f"""{DOCUMENTS}
CREATE TABLE rotations (
    fingerprint TEXT PRIMARY KEY, inv_freq TEXT NOT NULL, attention_factor REAL NOT NULL,
    softmax_factor REAL NOT NULL);
CREATE TABLE passes (
    fingerprint TEXT NOT NULL, document INTEGER NOT NULL, start INTEGER NOT NULL, bos INTEGER NOT NULL,
    stop INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT, file TEXT, sha256 TEXT, finished_at TEXT NOT NULL,
    PRIMARY KEY (fingerprint, document, start, bos, stop));
CREATE TABLE trials (
    fingerprint TEXT NOT NULL, length INTEGER NOT NULL, trial INTEGER NOT NULL, key TEXT NOT NULL, depth REAL NOT NULL,
    status TEXT NOT NULL, reason TEXT, success INTEGER, answer TEXT, predicted TEXT, text TEXT, nll TEXT,
    finished_at TEXT NOT NULL, PRIMARY KEY (fingerprint, length, trial));
{CELLS}"""
BEFORE_SOFTMAX = TABLES.replace(",\n    softmax_factor REAL NOT NULL", "")
"""As runs were made when every softmax factor was 1; they are read as they are."""
_REQUEST = "'trial ' || length || ' ' || trial"
"""What stands for the key of a request."""


def workers(store: Store) -> list[Row]:
    """Rows of the table workers."""
    model = store.meta("model") or {}
    facts = {"device": model.get("device"), "attention": store.meta("attention"), "versions": store.meta("versions")}
    return [{"worker": 1, **facts, "started_at": store.meta("started")}]


def schemes(store: Store) -> dict[str, Row]:
    """What passes ran under, as `Scheme.plain` says it, by fingerprint."""
    rows = {}
    for row in store.table("rotations"):
        inv_freq = store.parsed(row["inv_freq"], f"rotation {row['fingerprint']}")
        factors = {"attention_factor": row["attention_factor"], "softmax_factor": row.get("softmax_factor", 1.0)}
        rows[row["fingerprint"]] = {"rotation": {"inv_freq": inv_freq, **factors}}
    return rows


def prompts(store: Store) -> list[Row]:
    """Rows of the table prompts, in the order of their places."""
    query = f"SELECT DISTINCT length, trial, {_REQUEST} AS request, key, depth FROM trials ORDER BY trial"
    rows = store.named(query)
    metric = _tried(store).metric.name if rows else ""
    return [
        {
            "metric": metric,
            "length": row["length"],
            "place": row["trial"],
            "request": row["request"],
            "facts": canonical({"key": row["key"], "depth": row["depth"]}),
        }
        for row in rows
    ]


def _tried(store: Store) -> Probing:
    """The metric that all trials were of. Raises StoreError where the run asked for none."""
    found = probing(stored(store.meta("identity")["experiment"]).asked())
    if found is None:
        raise store.damaged("table trials")
    return found


def answers(store: Store) -> list[Row]:
    """Rows of the table answers."""
    columns = "status, reason, answer, predicted, nll, text"
    return store.named(f"SELECT fingerprint, {_REQUEST} AS request, {columns} FROM trials ORDER BY rowid")


def wrong_successes(raw: Raw) -> Iterator[tuple[str, int]]:
    """Trials whose stored success is not what their answer says, by name, with what is stored."""
    if not (trials := raw.store.table("trials")):
        return
    asked = _tried(raw.store)
    for trial in trials:
        prompt = raw.index.prompts[asked.metric.name, trial["length"]][trial["trial"]]
        answer = raw.index.answers[trial["fingerprint"], prompt.request]
        if trial["status"] == "ok" and int(asked.probes.found(answer.of("", prompt.facts))) != trial["success"]:
            name = f"{asked.metric.name} {trial['fingerprint']} @ {trial['length']} trial {trial['trial']}: success"
            yield name, trial["success"]
