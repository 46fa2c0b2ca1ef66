"""Measure some of a run's raw outcomes again, with the model: the other half of `ropewalk verify`."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ropewalk.corpus import KeySpans
from ropewalk.errors import StoreError
from ropewalk.execution import canary
from ropewalk.execution.spans import document_arrays
from ropewalk.execution.worker import Said, Worker, said
from ropewalk.experiment.guards import sound
from ropewalk.experiment.index import Answer, StoredPrompt
from ropewalk.experiment.prepare import Prepared, ask, document_row, geometry_facts, prepare
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.schema import Experiment
from ropewalk.experiment.store import DOCUMENTS, Store
from ropewalk.experiment.todo import PassTask, PromptTask
from ropewalk.experiment.tolerance import Tolerance, noticed
from ropewalk.experiment.verify import Mismatch
from ropewalk.metrics.metric import Prompt
from ropewalk.metrics.requests import Forced
from ropewalk.models import ModelSpec
from ropewalk.scoring import AnswerRow, NllRow, score, split
from ropewalk.scoring.budget import pays_to_compile

ANSWER_TOLERANCE = {"float32": 2e-3, "bfloat16": 0.5, "float16": 0.2}
"""Allowed difference of the mean loss of the few tokens of an answer, whose errors do not average out, nats/token."""

PROVENANCE = ("id", "revision", "architecture", "weights_sha256", "parameters", "chat_template", "trust_remote_code")


def verify_passes(
    directory: Path, count: int, seed: int | None = None, say: Callable[[str], None] = lambda text: None
) -> tuple[int, list[Mismatch]]:
    """Load model and documents again, compare them with the record, and run `count` stored passes or answers again,
    one at a time; returns how many, and what differs.

    Which ones is drawn anew each time without a `seed`: whoever forges a run cannot know. `say` is told how large a
    forgery this would have noticed.
    """
    store = Store.open_run(directory, read_only=True)
    with contextlib.closing(store), sound(directory):
        raw = Raw.read(store)
        _require_no_code(directory, raw.experiment)
        prepared = prepare(ask(raw.experiment), exact=bool(store.meta("identity")["exact"]))
        worker = Worker(prepared, split(prepared.model.model), budget=1, exact=True)
        wrong = [*_record(store, prepared), *_prompts(raw, worker)]
        if wrong:
            return 0, wrong
        known, now = raw.store.meta("canary"), canary.losses(prepared, worker.parts)
        wrong = list(_canary(known, now, _dtypes(raw, worker)))
        tolerance = Tolerance(dtypes=_dtypes(raw, worker), same=_reproduced(raw, worker, known, now))
        chosen = _chosen(raw, count, seed)
        for task in chosen:
            wrong += _answer(raw, worker, task) if isinstance(task, PromptTask) else _pass(raw, worker, tolerance, task)
        _say_what_is_noticed(raw, tolerance, sum(isinstance(task, PassTask) for task in chosen), say)
        return len(chosen), wrong


def _require_no_code(directory: Path, experiment: Experiment) -> None:
    """A run directory may come from anybody: what it says of trust is no consent of whoever reads it."""
    if ModelSpec.parse(experiment.model).trust_remote_code:
        raise StoreError(
            f"{directory}: was made with trust_remote_code, and a run directory cannot consent to code of others "
            "that runs here; verify it with --cells 0, or run its experiment file yourself and compare."
        )


def _passes(raw: Raw) -> list[PassTask]:
    """Every good pass."""
    return [
        PassTask(feed=feed, document=document, stop=stop)
        for (feed, document), outcomes in raw.index.passes.items()
        for stop, outcome in outcomes.items()
        if outcome.status == "ok"
    ]


def _answered(raw: Raw) -> list[PromptTask]:
    """Every prompt that was answered well."""
    return [task for task in _asked(raw) if _stored(raw, task).status == "ok"]


def _say_what_is_noticed(raw: Raw, tolerance: Tolerance, chosen: int, say: Callable[[str], None]) -> None:
    passes, answered = _passes(raw), len(_answered(raw))
    if chosen:
        fewest = min(Counter(task.fingerprint for task in passes).values())
        lengths = [task.tokens - 1 for task in passes]
        say(noticed(tolerance, lengths, chosen, fewest, len(passes) + min(len(passes), answered)))


def _chosen(raw: Raw, count: int, seed: int | None) -> list[PassTask | PromptTask]:
    """Passes and answers in turn, in random order."""
    draw = random.Random(seed)
    kinds: list[list[PassTask] | list[PromptTask]] = [_passes(raw), _answered(raw)]
    shuffled = (draw.sample(each, min(count, len(each))) for each in kinds)
    return [one for pair in itertools.zip_longest(*shuffled) for one in pair if one is not None][:count]


def _asked(raw: Raw) -> list[PromptTask]:
    """Prompts that have an answer, in the order in which they were answered."""
    places: dict[str, list[tuple[str, int, int]]] = {}
    for (metric, length), prompts in raw.index.prompts.items():
        for place, prompt in enumerate(prompts):
            places.setdefault(prompt.request, []).append((metric, length, place))
    return [
        PromptTask(fingerprint=fingerprint, metric=metric, length=length, place=place)
        for fingerprint, request in raw.index.answers
        for metric, length, place in places.get(request, ())
    ]


def _stored(raw: Raw, task: PromptTask) -> Answer:
    return raw.index.answers[task.fingerprint, raw.index.prompts[task.metric, task.length][task.place].request]


def _record(store: Store, prepared: Prepared) -> Iterator[Mismatch]:
    """The model's identity, its schemes, and the documents with their tokens, bytes and key tokens."""
    model, known = asdict(prepared.model.provenance), store.meta("model")
    for name in PROVENANCE:
        if known.get(name) != model[name]:
            yield Mismatch(what=f"model {name}", stored=known.get(name), found=model[name])
    yield from _geometry(store, prepared)
    found = [document_row(index, tokens) for index, tokens in enumerate(prepared.tokens)]
    for there, here in itertools.zip_longest(store.documents(), found):
        if there != here:
            # what is found is not printed: a run may name any file of whoever verifies it
            yield Mismatch(what="document", stored=there, found=here and "another document or text of that name")
            return
    if store.meta("bos") != prepared.tokens[0].bos:
        yield Mismatch(what="meta bos", stored=store.meta("bos"), found=prepared.tokens[0].bos)
    spans = [_spans(each) for each in store.meta("key_spans")]
    arrays = store.read_arrays(DOCUMENTS, str(store.meta("documents_sha256")))
    expected = document_arrays(prepared, spans)
    for name in sorted(arrays.keys() | expected.keys()):
        if not np.array_equal(arrays.get(name, np.empty(0)), expected.get(name, np.empty(0))):
            yield Mismatch(what=f"{DOCUMENTS} {name}", stored=arrays.get(name), found=expected.get(name))


def _geometry(store: Store, prepared: Prepared) -> Iterator[Mismatch]:
    """What config.json says: the weights' hash does not cover it. Of its rope_parameters, in which versions of
    transformers differ, the schemes that come out count."""
    known, found = store.meta("geometry"), geometry_facts(prepared.asked.geometry)
    for name in sorted(found.keys() - {"rope_parameters"}):
        if known.get(name) != found[name]:
            yield Mismatch(what=f"geometry {name}", stored=known.get(name), found=found[name])
    if lost := store.schemes().keys() - prepared.plan.schemes.keys():
        yield Mismatch(what="schemes", stored=sorted(lost), found=sorted(prepared.plan.schemes))


def _canary(known: dict[str, Any] | None, found: dict[str, Any], dtypes: frozenset[str]) -> Iterator[Mismatch]:
    """The canary's losses, under the shipped rotation, and that every session's were the same."""
    if known is None:
        return
    allowed = max(canary.TOLERANCE[name] for name in dtypes)
    if not canary.difference(known, found) <= allowed:
        yield Mismatch(what="meta canary", stored=known, found=found)
    for check in known["checks"]:
        if not check["difference"] <= allowed:
            yield Mismatch(
                what="meta canary: difference", stored=check, found=f"at most {allowed} in a run that goes on"
            )


def _reproduced(raw: Raw, worker: Worker, known: dict[str, Any] | None, found: dict[str, Any]) -> bool:
    """Whether this device gives the run's canary to the last bit, alone and among more rows, with layers that the run
    did not compile: then it gives the passes to the last bit as well."""
    model = worker.prepared.model.model
    compiled = not raw.store.meta("identity")["exact"] and pays_to_compile(model, worker.prepared.plan.tokens)
    if compiled or known is None or found["nll"] is None or canary.difference(known, found) != 0.0:
        return False
    for rows in (1, 8):
        asked = [canary.row(worker.prepared)] * rows
        for batch in score(model, worker.parts, asked, rows * len(asked[0].ids)):
            for _, outcome in batch:
                if not isinstance(outcome, np.ndarray) or outcome.tolist() != known["nll"]:
                    return False
    return True


def _spans(values: dict[str, Any]) -> KeySpans:
    spans: Any = tuple(tuple(pair) for pair in values["spans"])
    return KeySpans(**(values | {"spans": spans}))


def _prompts(raw: Raw, worker: Worker) -> Iterator[Mismatch]:
    """What the tokenizer makes of every prompt, of the answers' tokens, and of the text of what was predicted."""
    for (metric, length), prompts in raw.index.prompts.items():
        for place, (prompt, expected) in enumerate(itertools.zip_longest(prompts, worker.prompts(metric, length))):
            if expected is None or not _same_prompt(raw, prompt, expected):
                found = expected and expected.request.key
                yield Mismatch(
                    what=f"{metric} @ {length} prompt {place}", stored=prompt and prompt.request, found=found
                )
    for task in _asked(raw):
        answer = _stored(raw, task)
        if answer.status != "ok" or task.place >= len(worker.prompts(task.metric, task.length)):
            continue
        request = worker.prompt(task).request
        tokens = request.answer if isinstance(request, Forced) else None
        found = (tokens, said(worker.prepared.model.tokenizer, tokens, list(answer.predicted)))
        if (answer.answer, answer.text) != found:
            yield Mismatch(what=f"{_named(task)}: answer, text", stored=(answer.answer, answer.text), found=found)


def _same_prompt(raw: Raw, stored: StoredPrompt | None, expected: Prompt) -> bool:
    """Whether a stored prompt is the one that is made now; schema 1 keeps no key of its request."""
    if stored is None or not stored.agrees(expected.facts):
        return False
    return raw.store.version == 1 or stored.request == expected.request.key


def _named(task: PromptTask) -> str:
    return f"{task.metric} {task.fingerprint} @ {task.length} prompt {task.place}"


def _pass(raw: Raw, worker: Worker, tolerance: Tolerance, task: PassTask) -> list[Mismatch]:
    outcome = raw.index.passes[task.feed, task.document][task.stop]
    stored = raw.store.read_arrays(str(outcome.file), str(outcome.sha256))["nll"]
    found = _scored(worker, worker.row(task))
    document = raw.documents[task.document].id
    name = f"{task.fingerprint} on {document}, tokens {task.feed.start}..{task.stop}: mean nll"
    if not isinstance(found, np.ndarray):
        return [Mismatch(what=name, stored=f"{len(stored)} losses", found=found)]
    if not worker.prepared.plan.schemes[task.fingerprint].only_rotates:  # a pass alone takes another way through them
        tolerance = replace(tolerance, same=False)
    return [] if tolerance.allows(stored, found) else [Mismatch(what=name, stored=_mean(stored), found=_mean(found))]


def _answer(raw: Raw, worker: Worker, task: PromptTask) -> list[Mismatch]:
    stored, name = _stored(raw, task), _named(task)
    if stored.nll is None:
        again = worker.generated(task)
        same = isinstance(again, Said) and (again.text == stored.text or _dtypes(raw, worker) != {"float32"})
        if not same:  # others round near ties apart
            return [Mismatch(what=name, stored=stored.text, found=again)]
        return []
    found = _scored(worker, worker.answer_row(task))
    again = worker.said(task, found)
    if not isinstance(again, Said):
        return [Mismatch(what=name, stored="an answer", found=again)]
    there, here = np.array(stored.nll), np.array(again.nll)
    allowed = max(ANSWER_TOLERANCE[dtype] for dtype in _dtypes(raw, worker))
    wrong: list[Mismatch] = []
    if there.shape != here.shape or not abs(_mean(there) - _mean(here)) <= allowed:
        wrong.append(Mismatch(what=f"{name}: mean nll", stored=_mean(there), found=_mean(here)))
    predicted = list(stored.predicted)
    if _dtypes(raw, worker) == {"float32"} and again.predicted != predicted:  # others round near ties apart
        wrong.append(Mismatch(what=f"{name}: predicted", stored=stored.predicted, found=again.predicted))
    return wrong


def _scored(worker: Worker, row: NllRow | AnswerRow) -> Any:
    ((_, outcome),) = next(score(worker.prepared.model.model, worker.parts, [row], 1))
    return outcome


def _mean(losses: Any) -> float:
    return float(losses.astype(np.float64).mean())


def _dtypes(raw: Raw, worker: Worker) -> frozenset[str]:
    return frozenset({str(raw.store.meta("model")["dtype"]), worker.prepared.model.provenance.dtype})
