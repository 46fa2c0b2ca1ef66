"""Causal attention for scoring: no mask tensor, the fastest kernel first, and prefixes that many rows share.

Registered with transformers as the attention implementation "ropewalk". Sliding windows get a mask, other masks go
through transformers' own `sdpa`. Nothing is cached across forward passes except what a `Prefix` is asked to hold.

Shapes: B rows, H query heads, G key/value heads, S positions fed, P prefix positions, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ropewalk.errors import ModelError

NAME = "ropewalk"
BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(slots=True, eq=False)
class Prefix:
    """Rotated keys and values of a prefix, per layer `[B, G, P, D]`, filled by a forward pass inside `recording`."""

    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)


@dataclass(slots=True, frozen=True, kw_only=True, eq=False)
class _Mode:
    """What attention layers do beside attending: record into a prefix, continue one after `length` positions, and
    leave out of the last layer all positions but the last `tail` (0: none is left out)."""

    record: Prefix | None = None
    proceed: Prefix | None = None
    length: int = 0
    tail: int = 0


_mode = _Mode()


@contextmanager
def installed(model: Any) -> Iterator[None]:
    """Use this attention in `model` inside the block."""
    before = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def recording(prefix: Prefix) -> Iterator[None]:
    """Forward passes inside the block keep every layer's keys and values in `prefix`; their output is not wanted."""
    with _switched(record=prefix, tail=1):
        yield


@contextmanager
def continuing(prefix: Prefix, length: int, tail: int) -> Iterator[None]:
    """Forward passes inside the block attend to the first `length` positions of `prefix` as well.

    The caller feeds `position_ids` that start at `length`, and reads the last `tail` positions of what comes out.
    """
    with _switched(proceed=prefix, length=length, tail=tail):
        yield


@contextmanager
def only_last(tail: int) -> Iterator[None]:
    """Forward passes inside the block owe the caller the last `tail` positions; the last layer skips the others."""
    with _switched(tail=tail):
        yield


def wanted_tail() -> int:
    """How many last positions are wanted of the last layer; 0 for all."""
    return _mode.tail


@contextmanager
def _switched(**changes: Any) -> Iterator[None]:
    global _mode
    before, _mode = _mode, replace(_mode, **changes)
    try:
        yield
    finally:
        _mode = before


@torch.compiler.disable
def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: query `[B, H, S, D]`, key and value `[B, G, S, D]` to `[B, S, H, D]`."""
    if query.shape[2] != key.shape[2] or kwargs.get("softcap") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if _mode.record is not None:
        _mode.record.keys[module.layer_idx] = key
        _mode.record.values[module.layer_idx] = value
    window = kwargs.get("sliding_window")
    if attention_mask is not None and window is None and _mode.proceed is not None:
        raise ModelError(
            f"{type(module).__name__}: its mask is no sliding window, so prompts cannot share prefixes; use --exact."
        )
    slides = window is not None and window < query.shape[2] + _mode.length
    last = module.layer_idx == module.config.num_hidden_layers - 1
    if last and 0 < _mode.tail < query.shape[2] and (attention_mask is None or slides):
        out = torch.zeros_like(query)
        out[:, :, -_mode.tail :] = _masked(module.layer_idx, query[:, :, -_mode.tail :], key, value, scaling, window)
    elif _mode.proceed is not None and slides:
        out = _masked(module.layer_idx, query, key, value, scaling, window)
    elif _mode.proceed is not None:
        out = _after_prefix(module.layer_idx, query, key, value, scaling)
    elif attention_mask is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    else:
        with sdpa_kernel(BACKENDS, set_priority=True):
            grouped = query.shape[1] != key.shape[1]
            out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2), None


def _masked(layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Causal attention of the last S positions to the K of the prefix (as far as a window reaches) and of this pass."""
    if (prefix := _mode.proceed) is not None:
        reach = slice(0 if window is None else max(0, _mode.length - window + 1), _mode.length)
        key = torch.cat((prefix.keys[layer][:, :, reach], key), dim=2)
        value = torch.cat((prefix.values[layer][:, :, reach], value), dim=2)
    asks = torch.arange(key.shape[2] - query.shape[2], key.shape[2], device=query.device)[:, None]
    keys = torch.arange(key.shape[2], device=query.device)
    mask_SK = keys <= asks if window is None else (keys <= asks) & (keys > asks - window)
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, attn_mask=mask_SK, scale=scaling, enable_gqa=grouped)


def _after_prefix(layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """Full attention over the prefix and causal attention over the rest, merged by their log-sum-exps."""
    prefix = _mode.proceed
    assert prefix is not None
    earlier_key = prefix.keys[layer][:, :, : _mode.length]
    earlier_value = prefix.values[layer][:, :, : _mode.length]
    far, far_lse = _with_lse(query, earlier_key, earlier_value, causal=False, scaling=scaling)
    near, near_lse = _with_lse(query, key, value, causal=True, scaling=scaling)
    share = torch.sigmoid(far_lse - near_lse).unsqueeze(-1)
    return torch.lerp(near.float(), far.float(), share).to(query.dtype)


def _with_lse(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Attention output `[B, H, S, D]` and the log-sum-exp of its logits, float32 `[B, H, S]`."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) if groups > 1 else part for part in (key, value))
    aten = torch.ops.aten
    if query.device.type == "cpu":
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scaling)
    elif query.dtype == torch.float32:
        out, lse, *_ = aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=scaling
        )
    else:
        out, lse, *_ = aten._scaled_dot_product_cudnn_attention(
            query, key, value, None, True, 0.0, causal, False, scale=scaling
        )
    return out, lse.reshape(query.shape[0], query.shape[1], -1)[..., : query.shape[2]].float()


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
