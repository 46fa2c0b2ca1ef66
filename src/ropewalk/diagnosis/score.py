"""Token losses of one text under every hypothesis: rows of as few batches as their faults allow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.diagnosis.hypothesis import Feed, Hypothesis
from ropewalk.diagnosis.library import TEMPERATURE
from ropewalk.diagnosis.turning import layer_types
from ropewalk.errors import ModelError
from ropewalk.models import LoadedModel, patched
from ropewalk.models.auto import before_head, trunk
from ropewalk.models.layout import rotary_modules
from ropewalk.rope import Rotation
from ropewalk.scoring import Failure, NllRow, Split, score, split

BATCH_TOKENS = 8192
Losses = NDArray[np.float64]
"""Nats per token, `[T - 1]`; NaN where unknown."""


def losses(loaded: LoadedModel, ids: NDArray[np.int32], hypotheses: Sequence[Hypothesis]) -> list[Losses]:
    """Losses in nats of every token of `ids` int32 `[T]` but the first, float64 `[T - 1]` of each hypothesis; NaN for
    tokens that have no loss under it.

    Raises:
        ModelError: a pass failed, or the model has no BOS or no such layers as a hypothesis is about.
    """
    parts = split(loaded.model)
    found: dict[int, Losses] = {}
    order = sorted(range(len(hypotheses)), key=lambda i: _together(hypotheses[i]))
    for _, group in groupby(order, key=lambda i: _together(hypotheses[i])):
        indices = list(group)
        together = [hypotheses[i] for i in indices]
        with (
            _other_layers(loaded.model, loaded.geometry.layer_type, together[0].sliding),
            _tempered(loaded.model, together[0].tempered),
        ):
            found |= zip(indices, _scored(loaded, parts, ids, together), strict=True)
    return [found[index] for index in range(len(hypotheses))]


def _together(hypothesis: Hypothesis) -> tuple[str, bool, str, int]:
    """What the rows of a batch share: the rotation of the other layers, the temperature, and what is fed."""
    sliding = "" if hypothesis.sliding is None else hypothesis.sliding.fingerprint
    return sliding, hypothesis.tempered, hypothesis.feed.kind, hypothesis.feed.tokens


def _scored(
    loaded: LoadedModel, parts: Split, ids: NDArray[np.int32], hypotheses: Sequence[Hypothesis]
) -> list[Losses]:
    """Losses of ids `[T]` under hypotheses that are fed alike."""
    feed = hypotheses[0].feed
    if feed.kind in ("sliding", "shifted"):
        return [_masked(loaded.model, parts, ids, each) for each in hypotheses]
    fed, first = _fed(loaded, ids, feed)
    rows = [NllRow(ids=fed, scheme=each.scheme) for each in hypotheses]
    found = [np.full(len(ids) - 1, np.nan) for _ in rows]
    for batch in score(loaded.model, parts, rows, BATCH_TOKENS):
        for index, outcome in batch:
            if isinstance(outcome, Failure):
                raise ModelError(f"{hypotheses[index].name}: {outcome.reason}; give a shorter --length.")
            assert isinstance(outcome, np.ndarray)  # rows of tokens have no answers
            known = outcome[max(0, -first) :]
            found[index][max(0, first) : max(0, first) + len(known)] = known
    return found


def _fed(loaded: LoadedModel, ids: NDArray[np.int32], feed: Feed) -> tuple[NDArray[np.int32], int]:
    """The tokens of ids `[T]` that are fed, and which loss of ids their first loss is (-1: it is of `ids[0]`)."""
    match feed.kind:
        case "bos added":
            bos = loaded.tokenizer.bos_token_id
            return np.concatenate([[bos], ids]).astype(np.int32), -1
        case "bos missing":
            return ids[1:], 1
        case "tail":
            return ids[-feed.tokens :], len(ids) - feed.tokens
        case _:
            return ids, 0


@contextlib.contextmanager
def _other_layers(model: Any, scaled: str | None, rotation: Rotation | None) -> Iterator[None]:
    """Other layers than the scaled ones with another rotation inside the block; their buffers are put back."""
    if rotation is None or scaled is None:
        yield
        return
    module: Any = rotary_modules(model)[0]
    kinds = [kind for kind in layer_types(module) if kind != scaled]
    names = (f"{kind}_{what}" for kind in kinds for what in ("inv_freq", "attention_scaling"))
    before = {name: getattr(module, name) for name in names}
    try:
        for name, own in before.items():
            is_factor = name.endswith("scaling")
            values = rotation.attention_factor if is_factor else torch.from_numpy(rotation.inv_freq.copy()).to(own)
            setattr(module, name, values)
        yield
    finally:
        for name, own in before.items():
            setattr(module, name, own)


@contextlib.contextmanager
def _tempered(model: Any, tempered: bool) -> Iterator[None]:
    """Attention reads its temperature from the configuration in every pass; it is 1 inside the block, if so asked."""
    rope: dict[str, Any] = model.config.get_text_config(decoder=True).rope_parameters
    if tempered:
        yield
        return
    before = rope[TEMPERATURE]
    try:
        rope[TEMPERATURE] = 0.0
        yield
    finally:
        rope[TEMPERATURE] = before


@torch.inference_mode()
def _masked(model: Any, parts: Split, ids: NDArray[np.int32], hypothesis: Hypothesis) -> Losses:
    """Losses of ids `[T]` under a mask of which tokens see which; all NaN where each kind of layers has its mask."""
    if getattr(model.config.get_text_config(decoder=True), "layer_types", None):
        return np.full(len(ids) - 1, np.nan)
    device = parts.head.weight.device
    ids_1T = torch.from_numpy(ids.astype(np.int64)).to(device)[None]
    seen_TT = torch.from_numpy(seen(len(ids), hypothesis.feed)).to(device)
    least = torch.finfo(model.dtype).min
    mask_11TT = torch.zeros(seen_TT.shape, dtype=model.dtype, device=device).masked_fill(~seen_TT, least)[None, None]
    with patched(model, hypothesis.scheme):
        hidden = trunk(model)(input_ids=ids_1T, attention_mask=mask_11TT, use_cache=False).last_hidden_state
    return parts.head.nll(before_head(model)(hidden)[0, :-1], ids_1T[0, 1:]).double().cpu().numpy()


def seen(length: int, feed: Feed) -> NDArray[np.bool_]:
    """Which tokens each token is computed from, `[T, T]` (query, key)."""
    query, key = np.arange(length)[:, None], np.arange(length)[None, :]
    if feed.kind == "sliding":
        return (key <= query) & (key > query - feed.tokens)
    half = max(1, feed.tokens // 2)
    forgotten = np.where(query < feed.tokens, 0, ((query - feed.tokens) // half + 1) * half)
    return (key <= query) & (key >= forgotten)
