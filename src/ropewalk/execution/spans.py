"""What every run stores of its documents first: token ids, bytes they cover, key tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus import KeySpans, Tokens, key_token_mask, tokenize_all
from ropewalk.execution import keys
from ropewalk.execution.worker import Result, Worker
from ropewalk.experiment.plan import Feed
from ropewalk.experiment.prepare import Prepared, ready_spans
from ropewalk.experiment.store import DOCUMENTS, Store
from ropewalk.experiment.todo import PassTask, Task
from ropewalk.methods import make_params, resolve
from ropewalk.metrics.key_tokens import KeyRule, evaluator_file
from ropewalk.models import ModelSpec, load
from ropewalk.scoring import split


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """What a run stores of its documents.

    Attributes:
        arrays: see `document_arrays`.
        key_spans: of every document; empty without LongPPL.
        evaluator: the model that found them, None if they were ready.
        raw: its losses, by file.
        passes: that finding them took anyway.
    """

    arrays: Mapping[str, NDArray[Any]]
    key_spans: Sequence[KeySpans] = ()
    evaluator: Mapping[str, Any] | None = None
    raw: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    passes: Sequence[tuple[Task, Result]] = ()


def of_documents(worker: Worker) -> Facts:
    """Ids, byte counts and key tokens of every document."""
    prepared = worker.prepared
    asked = prepared.asked.experiment.key_options
    if asked is None:
        return Facts(arrays=document_arrays(prepared, ()))
    ready = ready_spans(prepared.asked, [tokens.document for tokens in prepared.tokens])
    if ready is not None:
        return Facts(arrays=document_arrays(prepared, ready), key_spans=ready)
    return _evaluated(worker, asked)


def keep_documents(store: Store, facts: Facts) -> None:
    """Store what is known of the documents."""
    files = {name: store.write_arrays(name, losses) for name, losses in facts.raw.items()}
    digest = store.write_arrays(DOCUMENTS, facts.arrays)
    evaluator = None if facts.evaluator is None else {"model": dict(facts.evaluator), "files": files}
    with store.transaction():
        store.set_meta("documents_sha256", digest)
        store.set_meta("key_spans", [asdict(each) for each in facts.key_spans])
        store.set_meta("evaluator", evaluator)


def document_arrays(prepared: Prepared, spans: Sequence[KeySpans]) -> dict[str, NDArray[Any]]:
    """What the run stores of each document N, cut to the longest length T: `N.ids` int32, `N.utf8_bytes` and `N.key`
    uint8, `[T]` each."""
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


def _evaluated(worker: Worker, asked: Any) -> Facts:
    """The facts with key spans under an evaluator, its losses, and passes that need not be done again."""
    prepared, parts = worker.prepared, worker.parts
    evaluator, documents = prepared.model, prepared.tokens
    if asked.evaluator != "self":
        evaluator = load(ModelSpec.parse(asked.evaluator or ""), dtype=prepared.asked.experiment.dtype)
        parts = split(evaluator.model)
        documents = _read_by(evaluator.tokenizer, prepared.tokens)
    longest = prepared.asked.experiment.lengths[-1]
    found: list[KeySpans] = []
    raw: dict[str, Mapping[str, NDArray[Any]]] = {}
    passes: list[tuple[Task, Result]] = []
    for index, (own, tokens) in enumerate(zip(prepared.tokens, documents, strict=True)):
        characters = len(own.document.text) if own.ends is None else int(own.ends[longest - 1])
        spans, losses = keys.find(evaluator, parts, tokens, KeyRule.of(asked), worker.budget, characters)
        raw[evaluator_file(index)] = losses
        found.append(spans)
        if asked.evaluator == "self" and (work := _of_plan(prepared, index, len(losses["nll_long"]) + 1)) is not None:
            passes.append((work, losses["nll_long"]))
    return Facts(
        arrays=document_arrays(prepared, found),
        key_spans=found,
        evaluator=asdict(evaluator.provenance),
        raw=raw,
        passes=passes,
    )


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
