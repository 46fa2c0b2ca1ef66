"""The canary: one fixed text under the shipped rotation, scored before the first and after the last pass of a worker.

A device that computes wrongly, weights that change under way and a patch that was not taken back give wrong numbers
without an error. Every worker of every session of a run scores the same few tokens at both ends of its lease, both
must give the losses that the run recorded first, and where they do not, nothing that the worker measured is kept. A
worker that is killed has no end; the next one's start still checks the model and the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ropewalk.errors import StoreError
from ropewalk.execution.writer import now
from ropewalk.experiment.prepare import Prepared, encoder
from ropewalk.experiment.store import Store
from ropewalk.methods import make_params, resolve
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow, Split, score

TEXT = (
    "Two strands of hemp, twisted against each other, hold by their wish to untwist. The ropemaker walks backwards "
    "down the lane, paying out fibre from his waist, and the rope is as long as the walk: 300 fathoms, no more."
)
TOKENS = 128
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.02}
"""Allowed mean difference of a token's loss, nats. The shape of the pass is always the same, so on one machine the
difference is 0 or close to it; the rest is for a run that is resumed under other versions or with other kernels."""


def row(prepared: Prepared) -> NllRow:
    """The canary's tokens under the rotation `none` of their length."""
    window = prepared.asked.geometry.window("stack").length
    ids = np.array(encoder(prepared.model.tokenizer)(TEXT)[: min(TOKENS, window)], dtype=np.int32)
    rotation = resolve(prepared.asked.geometry, "none", make_params("none", {}), len(ids)).rotation
    return NllRow(ids=ids, scheme=Scheme(rotation=rotation))


def losses(prepared: Prepared, parts: Split) -> dict[str, Any]:
    """What the canary gives now: fingerprint, tokens fed, and their losses or why there are none."""
    asked = row(prepared)
    pair = score(prepared.model.model, parts, [asked, asked], 2 * len(asked.ids))  # compiled layers treat 1 row apart
    outcome = next(outcome for batch in pair for index, outcome in batch if index == 0)
    common = {"fingerprint": asked.scheme.fingerprint, "tokens": len(asked.ids)}
    if isinstance(outcome, np.ndarray):
        return {**common, "nll": outcome.tolist(), "reason": None}
    return {**common, "nll": None, "reason": getattr(outcome, "status", "error")}


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Mean absolute difference of the losses, nats/token; infinite where they are not of the same tokens."""
    same = all(one[name] == other[name] for name in ("fingerprint", "tokens", "reason"))
    if not same or (one["nll"] is None) != (other["nll"] is None):
        return float("inf")
    return 0.0 if one["nll"] is None else float(np.abs(np.array(one["nll"]) - np.array(other["nll"])).mean())


def check(store: Store, found: dict[str, Any], when: str, worker: str, dtype: str) -> None:
    """Record a worker's canary, if it gives what the run recorded first.

    Args:
        store: of the run.
        found: what `losses` gave.
        when: "start" or "end" of the worker's lease.
        worker: what it is called.
        dtype: that the model runs in.

    Raises:
        StoreError: it does not.
    """
    known = store.meta("canary") or {**found, "checks": []}
    off, allowed = difference(known, found), TOLERANCE[dtype]
    if off > allowed:
        raise StoreError(
            f"{store.directory}: the canary ({found['tokens']} fixed tokens under the shipped rotation) is "
            f"{_said(found)} at the {when} of {worker} and was {_said(known)} before, {off:.3g} nats/token apart "
            f"where {allowed:g} is allowed, so nothing that this session measured is kept; check the device and the "
            "model's files, then run again."
        )
    with store.transaction():
        checks = [*known["checks"], {"at": now(), "when": when, "difference": off}]
        store.set_meta("canary", {**known, "checks": checks})


def _said(found: dict[str, Any]) -> str:
    return found["reason"] if found["nll"] is None else f"{np.mean(found['nll']):.6g} nats/token"
