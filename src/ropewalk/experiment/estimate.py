"""The passes of a plan as they will be fed, batch by batch, and how long they take at a probed pace."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from ropewalk.experiment.prepare import Asked, Prepared, prepare, prompts
from ropewalk.experiment.trials import YARN_NEW_TOKENS
from ropewalk.metrics.passkey import Trial
from ropewalk.models.source import find, is_here
from ropewalk.scoring import Split, fast, split
from ropewalk.scoring.budget import batch_tokens, pays_to_compile
from ropewalk.scoring.probe import Fed, probe
from ropewalk.scoring.shared import common_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a whole run feeds and takes, finding key tokens aside."""

    fed_tokens: int
    seconds: float


def of(asked: Asked) -> Estimate | None:
    """Load the model and probe it; None where its weights are not on this machine, as a plan downloads nothing.

    Raises:
        RopewalkError: as `prepare` does.
    """
    if asked.loaded is None and not is_here(find(asked.spec, weights=False)):
        return None
    prepared = prepare(asked)
    model = prepared.model.model
    compiled = pays_to_compile(model, prepared.plan.tokens)
    with fast(model, split(model), compiled=compiled) as parts:
        return estimate(prepared, parts, batch_tokens(model, asked.experiment.lengths[-1]), exact=False)


def estimate(prepared: Prepared, parts: Split, budget: int, *, exact: bool) -> Estimate:
    """Probe the loaded model, and add up.

    Args:
        prepared: what a run would do.
        parts: as the run scores with them (inside `fast`, if it does).
        budget: positions per batch.
        exact: no prefixes are shared.
    """
    plan = prepared.plan
    documents, answers = document_passes(prepared, budget), passkey_passes(prepared, budget, exact=exact)
    tokens = sum(fed.tokens for fed in (*documents, *answers))
    longest = prepared.asked.experiment.lengths[-1]
    rotation = next(iter(plan.rotations.values()))
    pace, answer_pace = probe(prepared.model.model, parts, prepared.tokens[0].ids[:longest], rotation, budget, tokens)
    return Estimate(fed_tokens=tokens, seconds=pace.seconds(documents) + answer_pace.seconds(answers))


def document_passes(prepared: Prepared, budget: int) -> list[Fed]:
    """Every feed on every document, rows of one length together."""
    lengths: Counter[int] = Counter()
    for feed, ends in prepared.plan.feeds.items():
        lengths[ends[-1] - feed.start] += prepared.plan.documents
    return [fed for length, count in lengths.items() for fed in _batches(count, length, budget)]


def passkey_passes(prepared: Prepared, budget: int, *, exact: bool) -> list[Fed]:
    """Every trial of every rotation: whole, or what comes after the beginning that it shares."""
    plan, asked = prepared.plan, prepared.asked.experiment.metrics.passkey
    if asked is None:
        return []
    if asked.protocol == "yarn":
        steps = [Fed(rows=1, new=1, before=length) for _, length in plan.passkeys] * (plan.trials * YARN_NEW_TOKENS)
        return [*steps, *(Fed(rows=1, new=length) for _, length in plan.passkeys for _ in range(plan.trials))]
    built = {length: prompts(prepared, length) for _, length in plan.passkeys}
    every = [(f, length, trial) for f, length in plan.passkeys for trial in built[length] if isinstance(trial, Trial)]
    _, shared = common_stream([trial.ids for *_, trial in every])
    if exact or not any(shared):
        return [fed for _, length in plan.passkeys for fed in _batches(plan.trials, length, budget)]
    tails: dict[str, list[Fed]] = {}
    for (fingerprint, length, trial), count in zip(every, shared, strict=True):
        begin = min(count, length - trial.answer_tokens - 1)
        tails.setdefault(fingerprint, []).append(Fed(rows=1, new=length - begin, before=begin))
    size = max(1, budget // max(length for _, length in plan.passkeys))
    passes: list[Fed] = []
    for same, count in Counter(tuple(own) for own in tails.values()).items():
        begins = [Fed(rows=1, new=longest)] if (longest := max(fed.before for fed in same)) else []
        passes += [replace(fed, rows=rows) for rows in _rows(count, size) for fed in (*begins, *same)]
    return passes


def _batches(count: int, length: int, budget: int) -> list[Fed]:
    return [Fed(rows=rows, new=length) for rows in _rows(count, max(1, budget // length))]


def _rows(count: int, size: int) -> list[int]:
    whole, rest = divmod(count, size)
    return [size] * whole + ([rest] if rest else [])
