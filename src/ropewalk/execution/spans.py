"""What every run stores of its documents first: token ids, bytes they cover, key tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus import KeySpans, Tokens, key_token_mask, tokenize_all
from ropewalk.execution import keys
from ropewalk.execution.worker import Result, Worker
from ropewalk.experiment.plan import Feed
from ropewalk.experiment.prepare import Prepared, Progress, ready_spans
from ropewalk.experiment.store import DOCUMENTS, Store
from ropewalk.experiment.todo import PassTask, Task
from ropewalk.methods import make_params, resolve
from ropewalk.metrics.longppl import KeyRule, LongPPL, evaluator_file
from ropewalk.models import ModelSpec, load
from ropewalk.scoring import split


def keep_documents(store: Store, worker: Worker, report: Progress) -> list[tuple[Task, Result]]:
    """Store ids, byte counts and key tokens of every document, once; returns passes that finding them took anyway."""
    prepared = worker.prepared
    if store.meta("documents_sha256") is not None:
        return []
    longppl: LongPPL | None = prepared.asked.experiment.options("longppl")
    spans: Sequence[KeySpans] = ()
    evaluator = None
    passes: list[tuple[Task, Result]] = []
    if longppl is not None:
        report("finding key tokens", 0, 0)
        ready = ready_spans(prepared.asked, [tokens.document for tokens in prepared.tokens])
        if ready is not None:
            spans = ready
        else:
            spans, evaluator, passes = _evaluated(store, worker, longppl)
    digest = store.write_arrays(DOCUMENTS, document_arrays(prepared, spans))
    with store.transaction():
        store.set_meta("documents_sha256", digest)
        store.set_meta("key_spans", [asdict(each) for each in spans])
        store.set_meta("evaluator", evaluator)
    return passes


def document_arrays(prepared: Prepared, spans: Sequence[KeySpans]) -> dict[str, NDArray[Any]]:
    """What the run stores of its documents, cut to the longest length: `N.ids`, `N.utf8_bytes`, `N.key`."""
    longest = prepared.asked.experiment.lengths[-1]
    arrays: dict[str, NDArray[Any]] = {}
    for index, tokens in enumerate(prepared.tokens):
        arrays[f"{index}.ids"] = tokens.ids[:longest]
        covered = tokens.utf8_bytes()
        if covered is not None:
            arrays[f"{index}.utf8_bytes"] = covered[:longest]
        if spans:
            mask = np.concatenate([[False], key_token_mask(tokens, spans[index])])
            arrays[f"{index}.key"] = mask[:longest].astype(np.uint8)
    return arrays


def _evaluated(
    store: Store, worker: Worker, asked: LongPPL
) -> tuple[list[KeySpans], dict[str, Any], list[tuple[Task, Result]]]:
    """Key spans under an evaluator; what the run records of it: its model, and its raw files with their hashes; and
    passes that need not be done again."""
    prepared, parts = worker.prepared, worker.parts
    rule = KeyRule(trunc_len=asked.trunc_len, stride=asked.stride, alpha=asked.alpha, beta=asked.beta)
    evaluator, documents = prepared.model, prepared.tokens
    if asked.evaluator != "self":
        evaluator = load(ModelSpec.parse(asked.evaluator or ""), dtype=prepared.asked.experiment.dtype)
        parts = split(evaluator.model)
        documents = _read_by(evaluator.tokenizer, prepared.tokens)
    longest = prepared.asked.experiment.lengths[-1]
    found: list[KeySpans] = []
    files: dict[str, str] = {}
    passes: list[tuple[Task, Result]] = []
    for index, (own, tokens) in enumerate(zip(prepared.tokens, documents, strict=True)):
        characters = len(own.document.text) if own.ends is None else int(own.ends[longest - 1])
        spans, losses = keys.find(evaluator, parts, tokens, rule, worker.budget, characters)
        name = evaluator_file(index)
        files[name] = store.write_arrays(name, losses)
        found.append(spans)
        if asked.evaluator == "self" and (work := _of_plan(prepared, index, len(losses["nll_long"]) + 1)) is not None:
            passes.append((work, losses["nll_long"]))
    return found, {"model": asdict(evaluator.provenance), "files": files}, passes


def _read_by(tokenizer: Any, own: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """The same documents, or windows of them, as an evaluator's tokenizer cuts them."""
    whole = {each.document.id: each.document for each in own}
    found = dict(zip(whole, tokenize_all(tokenizer, list(whole.values())), strict=True))
    return tuple(_from(found[each.document.id], each) for each in own)


def _from(whole: Tokens, own: Tokens) -> Tokens:
    """A document from the first token on that begins within the window `own`."""
    if own.start is None or own.starts is None or whole.starts is None:
        return whole
    first = int(np.searchsorted(whole.starts, own.starts[0], side="left")) if own.start else 0
    return whole.stretch(first, len(whole) - first)


def _of_plan(prepared: Prepared, document: int, stop: int) -> PassTask | None:
    """The plan's pass over a document to `stop` under the model's own rotation, if it has one."""
    own = resolve(prepared.model.geometry, "none", make_params("none", {}), stop).rotation
    feed = Feed(fingerprint=own.fingerprint, start=0, bos=False)
    whole = prepared.plan.feeds.get(feed, (0,))[-1] == stop
    return PassTask(feed=feed, document=document, stop=stop) if whole else None
