"""Measure some of a run's raw outcomes again, with the model: the other half of `ropewalk verify`."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ropewalk.corpus import KeySpans
from ropewalk.errors import StoreError
from ropewalk.experiment import canary, trials
from ropewalk.experiment.measure import continued
from ropewalk.experiment.plan import Feed
from ropewalk.experiment.prepare import Prepared, ask, geometry_facts, prepare, prompts
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.schema import Experiment
from ropewalk.experiment.spans import document_arrays
from ropewalk.experiment.store import DOCUMENTS, Store
from ropewalk.experiment.tolerance import Tolerance, noticed
from ropewalk.experiment.verify import Mismatch
from ropewalk.metrics.readings import fed_ids
from ropewalk.models import ModelSpec
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, Answers, NllRow, Split, score, split
from ropewalk.scoring.budget import pays_to_compile

ANSWER_TOLERANCE = {"float32": 2e-3, "bfloat16": 0.5, "float16": 0.2}
"""Allowed difference of the mean loss of the few tokens of an answer, whose errors do not average out, nats/token."""

PROVENANCE = ("id", "revision", "architecture", "weights_sha256", "parameters", "chat_template", "trust_remote_code")


def verify_passes(
    directory: Path, count: int, seed: int | None = None, say: Callable[[str], None] = lambda text: None
) -> tuple[int, list[Mismatch]]:
    """Load model and documents again, compare them with the record, and run `count` stored passes or trials again,
    one at a time; returns how many, and what differs.

    Which ones is drawn anew each time without a `seed`: whoever forges a run cannot know. `say` is told how large a
    forgery this would have noticed.
    """
    store = Store.open_run(directory, read_only=True)
    try:
        raw = Raw.read(store)
        _require_no_code(directory, raw.experiment)
        prepared = prepare(ask(raw.experiment), exact=bool(store.meta("identity")["exact"]))
        wrong = [*_record(store, prepared), *_prompts(raw, prepared)]
        if wrong:
            return 0, wrong
        parts = split(prepared.model.model)
        known, now = raw.store.meta("canary"), canary.losses(prepared, parts)
        wrong = list(_canary(known, now, _dtypes(raw, prepared)))
        tolerance = Tolerance(dtypes=_dtypes(raw, prepared), same=_reproduced(raw, prepared, parts, known, now))
        chosen = _chosen(raw, count, seed)
        for one in chosen:
            if isinstance(one, dict):
                wrong += _trial(raw, prepared, parts, one)
            else:
                wrong += _pass(raw, prepared, parts, tolerance, *one)
        _say_what_is_noticed(raw, tolerance, sum(not isinstance(one, dict) for one in chosen), say)
        return len(chosen), wrong
    finally:
        store.close()


def _require_no_code(directory: Path, experiment: Experiment) -> None:
    """A run directory may come from anybody: what it says of trust is no consent of whoever reads it."""
    if ModelSpec.parse(experiment.model).trust_remote_code:
        raise StoreError(
            f"{directory}: was made with trust_remote_code, and a run directory cannot consent to code of others "
            "that runs here; verify it with --cells 0, or run its experiment file yourself and compare."
        )


def _passes(raw: Raw) -> list[tuple[Feed, int, int]]:
    """Every good pass: feed, document, end."""
    return [
        (feed, document, stop)
        for (feed, document), outcomes in raw.passes.items()
        for stop, outcome in outcomes.items()
        if outcome[0] == "ok"
    ]


def _answered(raw: Raw) -> list[dict[str, Any]]:
    """Every good trial."""
    return [trial for group in raw.trials.values() for trial in group if trial["status"] == "ok"]


def _say_what_is_noticed(raw: Raw, tolerance: Tolerance, chosen: int, say: Callable[[str], None]) -> None:
    passes, trials_done = _passes(raw), len(_answered(raw))
    if chosen:
        fewest = min(Counter(feed.fingerprint for feed, _, _ in passes).values())
        lengths = [stop - feed.start - 1 for feed, _, stop in passes]
        say(noticed(tolerance, lengths, chosen, fewest, len(passes) + min(len(passes), trials_done)))


def _chosen(raw: Raw, count: int, seed: int | None) -> list[Any]:
    """Passes and trials in turn, in random order."""
    passes: list[Any] = list(_passes(raw))
    answered: list[Any] = _answered(raw)
    draw = random.Random(seed)
    shuffled = (draw.sample(each, min(count, len(each))) for each in (passes, answered))
    return [one for pair in itertools.zip_longest(*shuffled) for one in pair if one is not None][:count]


def _record(store: Store, prepared: Prepared) -> Iterator[Mismatch]:
    """The model's identity, its rotations, and the documents with their tokens, bytes and key tokens."""
    model, known = asdict(prepared.model.provenance), store.meta("model")
    for name in PROVENANCE:
        if known.get(name) != model[name]:
            yield Mismatch(what=f"model {name}", stored=known.get(name), found=model[name])
    yield from _geometry(store, prepared)
    names = ("document", "id", "title", "kind", "source", "licence", "sha256", "tokens")
    stored = store.rows(f"SELECT {', '.join(names)} FROM documents ORDER BY document")
    found = [
        (index, *(getattr(tokens.document, name) for name in names[1:-1]), len(tokens))
        for index, tokens in enumerate(prepared.tokens)
    ]
    for there, here in itertools.zip_longest(stored, found):
        if there != here:
            yield Mismatch(what="document", stored=there, found=here)
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
    transformers differ, the rotations that come out count."""
    known, found = store.meta("geometry"), geometry_facts(prepared.asked.geometry)
    for name in sorted(found.keys() - {"rope_parameters"}):
        if known.get(name) != found[name]:
            yield Mismatch(what=f"geometry {name}", stored=known.get(name), found=found[name])
    lost = {str(name) for (name,) in store.rows("SELECT fingerprint FROM rotations")} - prepared.plan.rotations.keys()
    if lost:
        yield Mismatch(what="rotations", stored=sorted(lost), found=sorted(prepared.plan.rotations))


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


def _reproduced(
    raw: Raw, prepared: Prepared, parts: Split, known: dict[str, Any] | None, found: dict[str, Any]
) -> bool:
    """Whether this device gives the run's canary to the last bit, alone and among more rows, with layers that the run
    did not compile: then it gives the passes to the last bit as well."""
    model = prepared.model.model
    compiled = not raw.store.meta("identity")["exact"] and pays_to_compile(model, prepared.plan.tokens)
    if compiled or known is None or found["nll"] is None or canary.difference(known, found) != 0.0:
        return False
    for rows in (1, 8):
        asked = [canary.row(prepared)] * rows
        for batch in score(model, parts, asked, rows * len(asked[0].ids)):
            for _, outcome in batch:
                if not isinstance(outcome, np.ndarray) or outcome.tolist() != known["nll"]:
                    return False
    return True


def _spans(values: dict[str, Any]) -> KeySpans:
    spans: Any = tuple(tuple(pair) for pair in values["spans"])
    return KeySpans(**(values | {"spans": spans}))


def _prompts(raw: Raw, prepared: Prepared) -> Iterator[Mismatch]:
    """What the tokenizer makes of every trial: its depth, the answer's tokens, and the text of what was predicted."""
    tokenizer = prepared.model.tokenizer
    depths = {length: [each.depth for each in prompts(prepared, length)] for length in {n for _, n in raw.trials}}
    for (fingerprint, length), group in raw.trials.items():
        for trial in (trial for trial in group if trial["status"] == "ok"):
            predicted, answer = json.loads(trial["predicted"]), trial["answer"] and json.loads(trial["answer"])
            found = (
                depths[length][trial["trial"]],
                answer and trials.encoder(tokenizer)(" " + trial["key"]),
                trials.said(tokenizer, answer, predicted),
            )
            stored = (trial["depth"], answer, trial["text"])
            if stored != found:
                name = f"passkey {fingerprint} @ {length} trial {trial['trial']}: depth, answer, text"
                yield Mismatch(what=name, stored=stored, found=found)


def _pass(
    raw: Raw, prepared: Prepared, parts: Split, tolerance: Tolerance, feed: Feed, document: int, stop: int
) -> list[Mismatch]:
    _, _, file, digest = raw.passes[feed, document][stop]
    stored = raw.store.read_arrays(str(file), str(digest))["nll"]
    tokens = prepared.tokens[document]
    bos_id = prepared.model.tokenizer.bos_token_id if feed.bos and tokens.bos else None
    ids = fed_ids(tokens.ids, feed.start, stop, bos_id)
    found = _scored(prepared, parts, NllRow(ids=ids, scheme=Scheme(rotation=prepared.plan.rotations[feed.fingerprint])))
    name = f"{feed.fingerprint} on {raw.documents[document].id}, tokens {feed.start}..{stop}: mean nll"
    if not isinstance(found, np.ndarray):
        return [Mismatch(what=name, stored=f"{len(stored)} losses", found=found)]
    return [] if tolerance.allows(stored, found) else [Mismatch(what=name, stored=_mean(stored), found=_mean(found))]


def _trial(raw: Raw, prepared: Prepared, parts: Split, row: dict[str, Any]) -> list[Mismatch]:
    name = f"passkey {row['fingerprint']} @ {row['length']} trial {row['trial']}"
    trial: Any = prompts(prepared, row["length"])[row["trial"]]
    if row["answer"] is None:
        again = trials.generated_row(
            prepared.model.tokenizer,
            row["fingerprint"],
            row["length"],
            trial,
            continued(prepared, trial, row["fingerprint"]),
        )
        if again.get("success") != row["success"]:
            return [Mismatch(what=name, stored=row["text"], found=again.get("text", again["status"]))]
        return []
    rotation = prepared.plan.rotations[row["fingerprint"]]
    found = _scored(
        prepared, parts, AnswerRow(ids=trial.ids, scheme=Scheme(rotation=rotation), answer_tokens=trial.answer_tokens)
    )
    if not isinstance(found, Answers):
        return [Mismatch(what=name, stored="an answer", found=found)]
    stored, predicted = np.array(json.loads(row["nll"])), json.loads(row["predicted"])
    allowed = max(ANSWER_TOLERANCE[dtype] for dtype in _dtypes(raw, prepared))
    wrong: list[Mismatch] = []
    if stored.shape != found.nll.shape or not abs(_mean(stored) - _mean(found.nll)) <= allowed:
        wrong.append(Mismatch(what=f"{name}: mean nll", stored=_mean(stored), found=_mean(found.nll)))
    if _dtypes(raw, prepared) == {"float32"} and found.predicted.tolist() != predicted:  # others round near ties apart
        wrong.append(Mismatch(what=f"{name}: predicted", stored=predicted, found=found.predicted.tolist()))
    return wrong


def _scored(prepared: Prepared, parts: Split, row: NllRow | AnswerRow) -> Any:
    ((_, outcome),) = next(score(prepared.model.model, parts, [row], 1))
    return outcome


def _mean(losses: Any) -> float:
    return float(losses.astype(np.float64).mean())


def _dtypes(raw: Raw, prepared: Prepared) -> frozenset[str]:
    return frozenset({str(raw.store.meta("model")["dtype"]), prepared.model.provenance.dtype})
