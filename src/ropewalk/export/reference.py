"""What an exported form is compared with: token losses of the measured rotation on known token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.corpus import load_documents, tokenize
from ropewalk.errors import ExportError
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import DOCUMENTS, Store
from ropewalk.export.request import Request
from ropewalk.methods import make_params, resolve
from ropewalk.metrics.readings import Reading
from ropewalk.models import ModelSpec, load
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Scheme
from ropewalk.scoring import Failure, NllRow, score, split


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Token losses under the measured rotation.

    Attributes:
        document: id of the text.
        ids: int32 `[T]`, as fed.
        nll: float32 `[T - 1]`, nats, of every token but the first.
        shipped: the same under the rotation that the checkpoint ships, to show that the comparison tells them apart.
        text: token ids to text, special tokens as they are written.
        lengths: prefixes of `ids` whose means are compared, tokens, rising; the last is T.
        dtype: that `nll` was computed in.
        origin: where `nll` comes from.
    """

    document: str
    ids: NDArray[np.int32]
    nll: NDArray[np.float32]
    shipped: NDArray[np.float32] | None
    text: Callable[[Sequence[int]], str]
    lengths: tuple[int, ...]
    dtype: str
    origin: str


def of_model(spec: ModelSpec, asked: Request, *, bos: bool = False) -> Reference:
    """The first tokens of a built-in document under the patched model in float32; `bos` puts a BOS first if any."""
    document = load_documents({"corpus": "builtin", "count": 1})[0]
    model = load(spec, dtype="float32")
    tokenizer = model.tokenizer
    ids = tokenize(tokenizer, document, bos=True if bos and tokenizer.bos_token_id is not None else "auto").ids
    ids = ids[: asked.length]
    shipped = _shipped(asked.geometry, len(ids))
    found = losses(model.model, ids, (asked.scheme, Scheme(rotation=shipped)))
    return Reference(
        document=document.id,
        ids=ids,
        nll=found[0],
        shipped=found[1],
        text=tokenizer.decode,
        lengths=(len(ids),),
        dtype="float32",
        origin="the patched model",
    )


def again(spec: ModelSpec, asked: Request, reference: Reference) -> Reference:
    """The same tokens under the patched model in float32, free of the rounding that a run was measured with."""
    nll = losses(load(spec, dtype="float32").model, reference.ids, (asked.scheme,))[0]
    return replace(reference, nll=nll, shipped=None, dtype="float32", origin="the patched model in float32")


def losses(model: Any, ids: NDArray[np.int32], schemes: tuple[Scheme, ...]) -> list[NDArray[np.float32]]:
    """Token losses under each scheme, float32 `[T - 1]`, nats.

    Raises:
        ExportError: a pass failed.
    """
    found = {}
    for batch in score(model, split(model), [NllRow(ids=ids, scheme=each) for each in schemes], len(ids)):
        for index, outcome in batch:
            if isinstance(outcome, Failure):
                raise ExportError(f"--check: {outcome.reason}; give a shorter --length.")
            assert isinstance(outcome, np.ndarray)  # rows of tokens have no answers
            found[index] = outcome
    return [found[index] for index in range(len(schemes))]


def of_run(directory: Path, asked: Request) -> Reference:
    """What the run stored of its first document, at all of its lengths up to the exported one.

    Raises:
        ExportError: the run holds no pass with this rotation from the start of a document.
        StoreError: it is damaged.
    """
    store = Store.open_run(directory, read_only=True)
    try:
        raw = Raw.read(store)
        lengths = [length for length in sorted(raw.experiment.lengths) if length <= asked.length]
        found = _stored(raw, asked.scheme, lengths)
        if found is None:
            raise ExportError(
                f"{directory}: holds no perplexity losses of rotation {asked.scheme.fingerprint} for --check to "
                "compare with; export METHOD with --model instead."
            )
        arrays: Mapping[str, Any] = store.read_arrays(DOCUMENTS, str(store.meta("documents_sha256")))
        return Reference(
            document=raw.documents[0].id,
            ids=arrays["0.ids"][: lengths[-1]],
            nll=found,
            shipped=_stored(raw, Scheme(rotation=_shipped(raw.geometry, lengths[-1])), lengths),
            text=_text(raw),
            lengths=tuple(lengths),
            dtype=str(store.meta("model")["dtype"]),
            origin=f"stored in {directory}",
        )
    finally:
        store.close()


def _stored(raw: Raw, scheme: Scheme, lengths: list[int]) -> NDArray[np.float32] | None:
    """Stored losses `[max(lengths) - 1]` of the first document, if the run has them."""
    if not lengths:
        return None
    found = raw.losses(scheme.fingerprint, 0, Reading(start=0, low=1, high=lengths[-1]))
    return found[: lengths[-1] - 1] if isinstance(found, np.ndarray) else None


def _text(raw: Raw) -> Callable[[Sequence[int]], str]:
    """The tokenizer is only read where an engine takes no ids."""
    return lambda ids: str(load(ModelSpec.parse(raw.experiment.model)).tokenizer.decode(ids))


def _shipped(geometry: RopeGeometry, length: int) -> Rotation:
    return resolve(geometry, "none", make_params("none", {}), length).rotation


def shortened(reference: Reference, limit: int) -> Reference:
    """The first `limit` tokens of it, with the lengths that fit."""
    if limit >= len(reference.ids):
        return reference
    shipped = None if reference.shipped is None else reference.shipped[: limit - 1]
    lengths = (*(length for length in reference.lengths if length < limit), limit)
    return replace(
        reference, ids=reference.ids[:limit], nll=reference.nll[: limit - 1], shipped=shipped, lengths=lengths
    )
