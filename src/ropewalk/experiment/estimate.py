"""The passes of a plan as they will be fed, batch by batch, and how long they take at a probed pace."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from ropewalk.experiment.plan import PromptSet
from ropewalk.experiment.prepare import Asked, Prepared, Progress, prepare, prompts
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.models.source import find, is_here
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, Split, fast, split
from ropewalk.scoring.budget import batch_tokens, pays_to_compile
from ropewalk.scoring.decoding import PromptRow, chunked, stores
from ropewalk.scoring.loop import even_part
from ropewalk.scoring.probe import Clock, Fed, probe
from ropewalk.scoring.shared import grain_of, shares, walk


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a whole run feeds and takes, finding key tokens and writing aside; `decode_s` are the seconds in which
    tokens are generated one after another, at most."""

    fed_tokens: int
    seconds: float
    decode_s: float = 0.0


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
    documents, answers = document_passes(prepared, budget), prompt_passes(prepared, budget, whole=False)
    tokens = sum(fed.tokens for fed in (*documents, *answers))
    longest = prepared.asked.experiment.lengths[-1]
    rotations = [scheme.rotation for scheme in plan.schemes.values()]
    ids = prepared.tokens[0].ids[:longest]
    timed = partial(probe, model, parts, ids, rotations, budget, tokens, clock=clock)
    report("probing documents", 0, 2)
    pace, seconds = timed(answers=False, limit_s=LIMIT_S / 2 if answers else LIMIT_S)
    report("probing answers", 1, 2)
    decode_s = 0.0
    if answers:
        answer_pace, once_s = timed(answers=True, limit_s=end - clock())
        if not parts.held:
            answers = prompt_passes(prepared, budget, whole=True)
        seconds += once_s + answer_pace.seconds(answers)
        decode_s = answer_pace.seconds(fed for fed in answers if fed.new == 1)
    report("probed", 2, 2)
    tokens = sum(fed.tokens for fed in (*documents, *answers))
    return Estimate(fed_tokens=tokens, seconds=seconds + pace.seconds(documents), decode_s=decode_s)


def document_passes(prepared: Prepared, budget: int) -> list[Fed]:
    """Every feed on every document, rows of one length together."""
    lengths: Counter[int] = Counter()
    for feed, ends in prepared.plan.feeds.items():
        lengths[ends[-1] - feed.start] += prepared.plan.documents
    return [fed for length, count in lengths.items() for fed in _batches(count, length, budget)]


def prompt_passes(prepared: Prepared, budget: int, *, whole: bool) -> list[Fed]:
    """Every prompt under every scheme: `whole`, or what comes after the beginning that it shares."""
    sets = prepared.plan.prompts
    forced = [each for each in sets if not each.prompts.new_tokens]
    made = [each for each in sets if each.prompts.new_tokens]
    later = [each for each in made if each.prompts.best_by]
    beside = [each for each in made if not each.prompts.best_by]
    read = set[tuple[Scheme, bytes]]() if whole or not beside else _walked(prepared, forced)
    found = _generated(prepared, beside, budget, whole=whole, read=read) if beside else []
    found += _generated(prepared, later, budget, whole=whole) if later else []
    return [*found, *(_forced(prepared, forced, budget, whole=whole) if forced else ())]


def _walked(prepared: Prepared, sets: Sequence[PromptSet]) -> set[tuple[Scheme, bytes]]:
    """The prompts, with their schemes, that are fed with their answers and can be gone on with then."""
    rows = list(chain.from_iterable(_answer_rows(prepared, sets).values()))
    multiple = grain_of(prepared.model.model.get_output_embeddings().weight)
    steps = walk([row.ids for row in rows], [row.answer_tokens for row in rows], multiple)
    plain = (row for row in rows if not row.scheme.branches) if shares(steps, rows) else ()
    return {(row.scheme, row.ids[: -row.answer_tokens].tobytes()) for row in plain}


def _generated(
    prepared: Prepared,
    sets: Sequence[PromptSet],
    budget: int,
    *,
    whole: bool,
    read: Collection[tuple[Scheme, bytes]] = frozenset(),
) -> list[Fed]:
    """Prompts, and after them token by token until no answer can be longer: one at a time if `whole`, or as many
    beside each other as `generate_shared` takes. Those in `read` are fed with their answers already."""
    model, rows = prepared.model.model, _rows(prepared, sets)
    if whole:
        alone = [(Fed(rows=1, new=len(row.ids)), Fed(rows=1, new=1, before=len(row.ids)), row) for row in rows]
        return [fed for first, step, row in alone for fed in (first, *[step] * (row.new_tokens - 1))]
    parts, passes = split(model), list[Fed]()
    for chunk in chunked(rows, budget):
        prompts = [rows[i] for i in chunk[0]]
        for taken in stores(model, parts, rows, chunk):
            own = [prompts[step.prompt] for step in taken]
            fed = [
                Fed(rows=len(chunk), new=len(row.ids) - s.shared, before=s.shared)
                for s, row in zip(taken, own, strict=True)
                if (row.scheme, row.ids.tobytes()) not in read
            ]
            longest, most = max(len(row.ids) for row in own), max(row.new_tokens for row in own)
            passes += [*fed, *[Fed(rows=len(own) * len(chunk), new=1, before=longest)] * (most - 1)]
    return passes


def _rows(prepared: Prepared, sets: Sequence[PromptSet]) -> list[PromptRow]:
    """Every prompt that is to be gone on with, under its scheme."""
    found = list[PromptRow]()
    made = {key: prompts(prepared, *key) for key in {(each.metric, each.length) for each in sets}}
    for each in sets:
        first, last = each.prompts.first, each.prompts.first + each.prompts.count
        scheme = prepared.plan.schemes[each.fingerprint]
        for prompt in made[each.metric, each.length][first:last]:
            request = prompt.request
            assert isinstance(request, Generated)
            row = PromptRow(ids=request.ids, scheme=scheme, new_tokens=request.new_tokens, stop=request.stop)
            found.append(row)
    return found


def _forced(prepared: Prepared, sets: Sequence[PromptSet], budget: int, *, whole: bool) -> list[Fed]:
    own = _answer_rows(prepared, sets)
    rows = list(chain.from_iterable(own.values()))
    multiple = grain_of(prepared.model.model.get_output_embeddings().weight)
    steps = walk([row.ids for row in rows], [row.answer_tokens for row in rows], multiple)
    if whole or not shares(steps, rows):
        return [fed for each in sets for fed in _batches(each.prompts.count, each.length, budget)]
    passes: list[Fed] = []
    for same in _alike(list(own.values())):
        longest = max(len(row.ids) for row in same[0])
        parts = _parts(len(same), budget // longest)
        for step in walk([r.ids for r in same[0]], [r.answer_tokens for r in same[0]], multiple):
            fed = Fed(rows=1, new=len(same[0][step.prompt].ids) - step.shared, before=step.shared)
            passes += [replace(fed, rows=rows) for rows in parts]
    return passes


def _answer_rows(prepared: Prepared, sets: Sequence[PromptSet]) -> dict[str, list[AnswerRow]]:
    """Prompts with answers, by the scheme's fingerprint."""
    built = {(s.metric, s.length): [p.request for p in prompts(prepared, s.metric, s.length)] for s in sets}
    own: dict[str, list[AnswerRow]] = {}
    for each in sets:
        scheme = prepared.plan.schemes[each.fingerprint]
        for request in built[each.metric, each.length]:
            if isinstance(request, Forced):
                row = AnswerRow(ids=request.ids, scheme=scheme, answer_tokens=request.answer_tokens)
                own.setdefault(each.fingerprint, []).append(row)
    return own


def _alike(rows: list[list[AnswerRow]]) -> list[list[list[AnswerRow]]]:
    """The schemes whose prompts are the same, together."""
    groups: dict[tuple[int, ...], list[list[AnswerRow]]] = {}
    for own in rows:
        groups.setdefault(tuple(id(row.ids) for row in own), []).append(own)
    return list(groups.values())


def _batches(count: int, length: int, budget: int) -> list[Fed]:
    return [Fed(rows=rows, new=length) for rows in _parts(count, budget // length)]


def _parts(count: int, most: int) -> list[int]:
    """Rows per batch, as `score` takes them."""
    parts: list[int] = []
    while left := count - sum(parts):
        parts.append(even_part(left, max(1, most)))
    return parts
