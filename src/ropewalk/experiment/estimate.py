"""The passes of a plan as they will be fed, batch by batch, and how long they take at a probed pace."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

from ropewalk.experiment.measure import Progress
from ropewalk.experiment.prepare import Asked, Prepared, prepare, prompts
from ropewalk.experiment.trials import YARN_NEW_TOKENS
from ropewalk.metrics.passkey import Trial
from ropewalk.models.source import find, is_here
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, Split, fast, split
from ropewalk.scoring.budget import batch_tokens, pays_to_compile
from ropewalk.scoring.loop import even_part
from ropewalk.scoring.probe import Clock, Fed, probe
from ropewalk.scoring.shared import grain_of, shares, walk


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a whole run feeds and takes, finding key tokens and writing aside."""

    fed_tokens: int
    seconds: float


LIMIT_S = 60.0
"""What probing may take once the model is loaded, about."""


def can_probe(asked: Asked) -> bool:
    """Whether the weights are on this machine: a plan downloads nothing."""
    return asked.loaded is not None or is_here(find(asked.spec, weights=False))


def of(asked: Asked, report: Progress = lambda what, done, total: None) -> Estimate:
    """Load the model and probe it, for at most about LIMIT_S; `report` is told what goes on.

    Raises:
        RopewalkError: as `prepare` does.
    """
    report("loading the model", 0, 0)
    start = time.perf_counter()
    prepared = prepare(asked)
    ready_s = time.perf_counter() - start  # a run loads and tokenises as well
    model = prepared.model.model
    compiled = pays_to_compile(model, prepared.plan.tokens)
    with fast(model, split(model), compiled=compiled, longest=asked.experiment.lengths[-1]) as parts:
        found = estimate(prepared, parts, batch_tokens(model, asked.experiment.lengths[-1]), report)
    return replace(found, seconds=found.seconds + ready_s)


def estimate(
    prepared: Prepared,
    parts: Split,
    budget: int,
    report: Progress = lambda what, done, total: None,
    clock: Clock = time.perf_counter,
) -> Estimate:
    """Probe the loaded model, and add up.

    Args:
        prepared: what a run would do.
        parts: as the run scores with them (inside `fast`, if it does).
        budget: positions per batch.
        report: told before each probe.
        clock: in seconds.
    """
    end = clock() + LIMIT_S
    plan = prepared.plan
    model = prepared.model.model
    documents, answers = document_passes(prepared, budget), passkey_passes(prepared, budget, whole=False)
    tokens = sum(fed.tokens for fed in (*documents, *answers))
    longest = prepared.asked.experiment.lengths[-1]
    rotations = list(plan.rotations.values())
    ids = prepared.tokens[0].ids[:longest]
    timed = partial(probe, model, parts, ids, rotations, budget, tokens, clock=clock)
    report("probing documents", 0, 2)
    pace, seconds = timed(answers=False, limit_s=LIMIT_S / 2 if answers else LIMIT_S)
    report("probing answers", 1, 2)
    if answers:
        answer_pace, once_s = timed(answers=True, limit_s=end - clock())
        if not parts.held:
            answers = passkey_passes(prepared, budget, whole=True)
        seconds += once_s + answer_pace.seconds(answers)
    report("probed", 2, 2)
    tokens = sum(fed.tokens for fed in (*documents, *answers))
    return Estimate(fed_tokens=tokens, seconds=seconds + pace.seconds(documents))


def document_passes(prepared: Prepared, budget: int) -> list[Fed]:
    """Every feed on every document, rows of one length together."""
    lengths: Counter[int] = Counter()
    for feed, ends in prepared.plan.feeds.items():
        lengths[ends[-1] - feed.start] += prepared.plan.documents
    return [fed for length, count in lengths.items() for fed in _batches(count, length, budget)]


def passkey_passes(prepared: Prepared, budget: int, *, whole: bool) -> list[Fed]:
    """Every trial of every rotation: `whole`, or what comes after the beginning that it shares."""
    plan, asked = prepared.plan, prepared.asked.experiment.metrics.passkey
    if asked is None:
        return []
    if asked.protocol == "yarn":
        steps = [Fed(rows=1, new=1, before=length) for _, length in plan.passkeys] * (plan.trials * YARN_NEW_TOKENS)
        return [*steps, *(Fed(rows=1, new=length) for _, length in plan.passkeys for _ in range(plan.trials))]
    built = {length: prompts(prepared, length) for _, length in plan.passkeys}
    every = [(f, length, trial) for f, length in plan.passkeys for trial in built[length] if isinstance(trial, Trial)]
    rows = [
        AnswerRow(ids=t.ids, scheme=Scheme(rotation=plan.rotations[f]), answer_tokens=t.answer_tokens)
        for f, _, t in every
    ]
    multiple = grain_of(prepared.model.model.get_output_embeddings().weight)
    steps = walk([row.ids for row in rows], [row.answer_tokens for row in rows], multiple)
    if whole or not shares(steps, rows):
        return [fed for _, length in plan.passkeys for fed in _batches(plan.trials, length, budget)]
    own: dict[str, list[Trial]] = {}
    for fingerprint, _, trial in every:
        own.setdefault(fingerprint, []).append(trial)
    passes: list[Fed] = []
    for same in _alike(list(own.values())):
        longest = max(len(trial.ids) for trial in same[0])
        parts = _parts(len(same), budget // longest)
        for step in walk([t.ids for t in same[0]], [t.answer_tokens for t in same[0]], multiple):
            fed = Fed(rows=1, new=len(same[0][step.prompt].ids) - step.shared, before=step.shared)
            passes += [replace(fed, rows=rows) for rows in parts]
    return passes


def _alike(prompts: list[list[Trial]]) -> list[list[list[Trial]]]:
    """The rotations whose prompts are the same, together."""
    groups: dict[tuple[int, ...], list[list[Trial]]] = {}
    for own in prompts:
        groups.setdefault(tuple(id(trial) for trial in own), []).append(own)
    return list(groups.values())


def _batches(count: int, length: int, budget: int) -> list[Fed]:
    return [Fed(rows=rows, new=length) for rows in _parts(count, budget // length)]


def _parts(count: int, most: int) -> list[int]:
    """Rows per batch, as `score` takes them."""
    parts: list[int] = []
    while left := count - sum(parts):
        parts.append(even_part(left, max(1, most)))
    return parts
