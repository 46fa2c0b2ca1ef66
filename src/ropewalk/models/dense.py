"""Attention under schemes for any implementation of transformers, and branches without any shortcut.

`patched` puts it over the attention that a model runs with where a scheme asks for more than a rotation. Branches are
summed in float32 over the explicit map of distances: what fast ways are held against.

Shapes: B rows, H query heads, G key/value heads, S queries, K keys of which theirs are the last, D and E head
dimensions of keys and values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ropewalk.errors import ModelError
from ropewalk.models.turning import Turn, passing

OWN = "ropewalk"
"""How the names of implementations begin that heed schemes themselves."""

QUERIES = 256
"""That are taken at a time: weights of all at once would be large."""


def over(name: str) -> str:
    """The name of an implementation that heeds schemes and attends as the one of that name does."""
    if name.startswith(OWN):
        return name
    heeding = f"{OWN}_over_{name}"
    if heeding not in ALL_ATTENTION_FUNCTIONS:
        AttentionInterface.register(heeding, _heeding(name))
        if name in ALL_MASK_ATTENTION_FUNCTIONS:
            AttentionMaskInterface.register(heeding, ALL_MASK_ATTENTION_FUNCTIONS[name])
    return heeding


def _heeding(name: str) -> Callable[..., Any]:
    @torch.compiler.disable  # what a call is to do is counted from call to call: nothing that a compiler may look into
    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any) -> Any:
        running = passing()
        inner = _inner(module, name)
        if running is None:
            return inner(module, query, key, value, mask, **kwargs)
        turn = running.next(key.shape[2], query.device)
        query = turn.sharpened(query)
        if not turn.branches:
            return inner(module, query, key, value, mask, **kwargs)
        start = key.shape[2] - query.shape[2]
        if kwargs.get("sliding_window") is not None:
            query, key = turn.plain(query, start), turn.plain(key, 0)
            return inner(module, query, key, value, mask, **kwargs)
        _require_text(module, mask)
        scaling = kwargs.get("scaling")
        return dense(query, key, value, query.shape[3] ** -0.5 if scaling is None else scaling, turn), None

    return attend


def _inner(module: Any, name: str) -> Callable[..., Any]:
    if name in ALL_ATTENTION_FUNCTIONS:
        return ALL_ATTENTION_FUNCTIONS[name]
    found = getattr(sys.modules[type(module).__module__], f"{name}_attention_forward", None)
    if found is None:
        raise ModelError(f"{type(module).__name__} has no attention {name!r} that schemes could be put over; use sdpa.")
    return found


def _require_text(module: Any, mask: Tensor | None) -> None:
    """Refuse padding: distances are counted in places."""
    if mask is None:
        return
    last = mask[..., -1, :]
    seen = last if last.dtype == torch.bool else last == 0
    if not bool(seen.all()):
        raise ModelError(f"{type(module).__name__}: branches know no padding; feed texts of one length, or one by one.")


def dense(query: Tensor, key: Tensor, value: Tensor, scaling: float, turn: Turn) -> Tensor:
    """Attention over branches of unturned queries `[B, H, S, D]` and keys `[B, G, K, D]`, in float32; `[B, S, H, E]` in
    the dtype of the query."""
    groups, keys = query.shape[1] // key.shape[1], key.shape[2]
    start = keys - query.shape[2]
    told = [turn.told(key.float(), each).repeat_interleave(groups, 1) for each in turn.branches]
    values = value.float().repeat_interleave(groups, 1)
    parts = []
    for at in range(0, query.shape[2], QUERIES):
        some = query[:, :, at : at + QUERIES].float()
        places = np.arange(start + at, start + at + some.shape[2])
        logits = torch.full((*some.shape[:3], keys), -torch.inf, device=query.device)
        for place, (branch, key_BHKD) in enumerate(zip(turn.branches, told, strict=True)):
            asks = turn.asks(some, place, start + at)
            seen = torch.from_numpy(branch.holds(places, np.arange(keys))).to(query.device)
            logits = torch.where(seen, asks @ key_BHKD.mT * scaling, logits)
        parts.append(logits.softmax(-1) @ values)
    return torch.cat(parts, 2).transpose(1, 2).to(query.dtype).contiguous()
