"""Causal attention within a sliding window, in time and memory that grow with the length and not with its square.

Shapes: B rows, H query heads, G key/value heads, S queries, K keys of which theirs are the last, W window, D and E head
dimensions of keys and values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers.masking_utils import sdpa_mask

BACKENDS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]


def banded(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int) -> Tensor:
    """Attention of queries `[B, H, S, D]` to keys `[B, G, K, D]`, each to the last W of those up to its own place;
    `[B, H, S, E]`."""
    places, keys = query.shape[2], key.shape[2]
    before = min(places, max(0, window - (keys - places)))  # queries that see every key before them
    blocks, rest = divmod(places - before, window)
    first = keys - places + before
    parts = []
    if before:
        parts.append(_within(query[:, :, :before], key[:, :, :first], value[:, :, :first], scaling, window))
    if blocks:
        own = query[:, :, before : before + blocks * window]
        reached = slice(first - window, first + blocks * window)
        parts.append(_blocks(own, key[:, :, reached], value[:, :, reached], scaling, window))
    if rest:
        parts.append(_within(query[:, :, -rest:], key, value, scaling, window))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _within(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int) -> Tensor:
    """A few queries, under one mask over the keys that they reach."""
    groups = query.shape[1] // key.shape[1]
    reach = min(key.shape[2], query.shape[2] + window - 1)
    key, value = (part[:, :, -reach:].repeat_interleave(groups, dim=1) for part in (key, value))
    asks = torch.arange(reach - query.shape[2], reach, device=query.device)[:, None]
    keys = torch.arange(reach, device=query.device)
    with sdpa_kernel(BACKENDS):
        mask_SK = (keys <= asks) & (keys > asks - window)
        return scaled_dot_product_attention(query, key, value, attn_mask=mask_SK, scale=scaling)


def _blocks(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int) -> Tensor:
    """Whole blocks of W queries; each reaches into its own block of keys and the one before. Keys start W earlier."""
    rows, heads, places, _ = query.shape
    blocks, groups = places // window, heads // key.shape[1]
    own = query.unflatten(2, (blocks, window)).transpose(1, 2).flatten(0, 1)
    key, value = (
        part.unfold(2, 2 * window, window).permute(0, 2, 1, 4, 3).flatten(0, 1).repeat_interleave(groups, dim=1)
        for part in (key, value)
    )
    asks = torch.arange(window, 2 * window, device=query.device)[:, None]
    keys = torch.arange(2 * window, device=query.device)
    with sdpa_kernel(BACKENDS):
        mask_SK = (keys <= asks) & (keys > asks - window)
        out = scaled_dot_product_attention(own, key, value, attn_mask=mask_SK, scale=scaling)
    return out.unflatten(0, (rows, blocks)).transpose(1, 2).flatten(2, 3)


def mask_unless_sliding(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *args: Any,
    mask_function: Callable[..., Any],
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    **kwargs: Any,
) -> Tensor | None:
    """transformers' mask, but None for a plain sliding window, which `banded` needs no mask for."""
    whole = attention_mask is None and q_length == kv_length
    if whole and local_size is not None and slides(mask_function, local_size):
        return None
    options = {"mask_function": mask_function, "attention_mask": attention_mask, "local_size": local_size}
    return sdpa_mask(batch_size, q_length, kv_length, *args, **options, **kwargs)


def slides(mask_function: Callable[..., Any], window: int) -> bool:
    """Whether a mask lets each place see the last `window` places, its own included, and no others; asked of a few."""
    zero = torch.zeros((), dtype=torch.long)
    for place in (window, window + window // 2, 2 * window - 1, 2 * window):
        seen = [
            bool(mask_function(zero, zero, zero + place, zero + place + step)) for step in (-window, 1 - window, 0, 1)
        ]
        if seen != [False, True, True, False]:
            return False
    return True
