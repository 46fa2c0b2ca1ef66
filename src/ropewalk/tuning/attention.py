"""Attention that gradients go through, with a gain per layer, head and dimension on the query.

Registered with transformers as "ropewalk_tune". The gain comes after the rotation; both dimensions of a pair have the
same, so it commutes with the rotation and could as well stand before it, in the weights.

Shapes: B rows, H query heads, G key/value heads, S positions, D and E head dimensions of keys and values, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from ropewalk.errors import ModelError
from ropewalk.scoring.attention import KNOWN, installed, name_for
from ropewalk.scoring.attention import NAME as WHOLE
from ropewalk.scoring.banded import banded, mask_unless_sliding
from ropewalk.tuning.near import Far, multiplied

NAME, MASKED = "ropewalk_tune", "ropewalk_tune_masked"

BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""Without cuDNN's: its gradients are summed in any order, and each new length costs it a preparation."""


_factors: Tensor | None = None
_far: Far | None = None


@contextmanager
def gained(factors_LHD: Tensor | None, far: Far | None = None) -> Iterator[None]:
    """Multiply the queries of each layer inside the block, and tell far pairs otherwise; backward passes belong inside
    too."""
    global _factors, _far
    before, _factors, _far = (_factors, _far), factors_LHD, far
    try:
        yield
    finally:
        _factors, _far = before


@contextmanager
def tunable(model: Any) -> Iterator[None]:
    """Use this attention in a model inside the block."""
    with installed(model, NAME if name_for(model.config) == WHOLE else MASKED):
        yield


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
    """transformers' attention function: query `[B, H, S, D]`, key `[B, G, S, D]`, value `[B, G, S, E]` to
    `[B, S, H, E]`.

    Raises:
        ModelError: the model asks for something that is not computed here, or does not say which layer attends.
    """
    for name, given in kwargs.items():
        if name not in KNOWN and given is not None and given is not False:
            raise ModelError(f"{type(module).__name__}: its attention has {name}, through which tuning does not go.")
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise ModelError(f"{type(module).__name__} has no layer_idx, so it is not known whose gains it has.")
    query = multiplied(query, _factors, layer)
    window = kwargs.get("sliding_window")
    if _far is not None and layer in _far.layers:
        if attention_mask is not None or window is not None:
            raise ModelError(f"{type(module).__name__}: its attention has a mask; tune without near.")
        return _far.attend(layer, query, key, value, scaling).transpose(1, 2).contiguous(), None
    if attention_mask is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if window is not None:
        return banded(query, key, value, scaling, window).transpose(1, 2).contiguous(), None
    grouped = query.shape[1] != key.shape[1]
    with sdpa_kernel(BACKENDS, set_priority=True):
        out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
AttentionInterface.register(MASKED, attend)
AttentionMaskInterface.register(MASKED, mask_unless_sliding)
