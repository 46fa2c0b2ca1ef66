"""The canary: one fixed text under the shipped rotation, scored before the first and after the last pass of a session.

A device that computes wrongly, weights that change under way and a patch that was not taken back give wrong numbers
without an error. Every session of a run (the first and each that resumes it) scores the same few tokens at its start
and at its end, both must give the losses that the run recorded first, and where they do not, nothing that the session
measured is kept. A session that is killed has no end; the next one's start still checks the model and the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ropewalk.errors import ModelError, StoreError
from ropewalk.experiment.measure import now
from ropewalk.experiment.prepare import Prepared
from ropewalk.experiment.store import Store
from ropewalk.experiment.trials import encoder
from ropewalk.methods import make_params, resolve
from ropewalk.models.reread import reread
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


@contextmanager
def watched(store: Store, prepared: Prepared, parts: Split) -> Iterator[None]:
    """Score the canary before and after the block, and watch the rotations that the layers get inside it.

    Raises:
        StoreError: the canary does not give the losses that the run recorded first; then the store holds nothing of
            what was measured inside the block.
        ModelError: the layers do not get the rotations that are asked for.
    """
    before = store.marks()
    model = prepared.model.model
    with reread(model) as right:
        first = _check(store, prepared, parts, "start")
        if first["nll"] is not None and not right:
            raise ModelError(
                f"model {prepared.asked.spec.id!r}: the forward pass of {type(model).__name__} never asked its rotary "
                "module, so no rotation could be applied; use the architecture as transformers ships it."
            )
        yield
        try:
            _check(store, prepared, parts, "end")
        except StoreError:
            with store.transaction():
                store.delete_since(before)
            raise


def _check(store: Store, prepared: Prepared, parts: Split, when: str) -> dict[str, Any]:
    found = losses(prepared, parts)
    known = store.meta("canary") or {**found, "checks": []}
    off, allowed = difference(known, found), TOLERANCE[prepared.model.provenance.dtype]
    if off > allowed:
        raise StoreError(
            f"{store.directory}: the canary ({found['tokens']} fixed tokens under the shipped rotation) is "
            f"{_said(found)} at the {when} of this session and was {_said(known)} before, {off:.3g} nats/token apart "
            f"where {allowed:g} is allowed, so nothing that this session measured is kept; check the device and the "
            "model's files, then run again."
        )
    with store.transaction():
        checks = [*known["checks"], {"at": now(), "when": when, "difference": off}]
        store.set_meta("canary", {**known, "checks": checks})
    return found


def _said(found: dict[str, Any]) -> str:
    return found["reason"] if found["nll"] is None else f"{np.mean(found['nll']):.6g} nats/token"
