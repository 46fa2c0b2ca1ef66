"""Attention over a set of keys with the log-sum-exp of its logits, and sets merged by them.

Shapes: B rows, H query heads, G key/value heads, S queries, K keys, D and E head dimensions of keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.backends.cuda import SDPAParams, can_use_cudnn_attention, can_use_flash_attention
from torch.nn.functional import pad

PLANNED_FLOPS = 1e12
"""cuDNN plans for 40 ms at every new shape. Prompts that go on after one another have few shapes alike: with less work
than this in a layer, flash attention is done sooner."""


def widened(key: Tensor, value: Tensor) -> Tensor:
    """Values as wide as keys: for others a CPU has no kernel but the one that makes all weights at once."""
    missing = key.shape[3] - value.shape[3]
    return pad(value, (0, missing)) if missing > 0 and key.device.type == "cpu" else value


def merged(far: Tensor, far_lse: Tensor, near: Tensor, near_lse: Tensor) -> Tensor:
    """Attention over two sets of keys `[B, H, S, E]` as one, by the log-sum-exps `[B, H, S]` of their logits."""
    share = torch.sigmoid(far_lse - near_lse).to(near.dtype).unsqueeze(-1)
    return torch.lerp(near, far, share)


def with_lse(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Attention output `[B, H, S, E]` and the log-sum-exp of its logits, float32 `[B, H, S]`."""
    aten = torch.ops.aten
    params = SDPAParams(query, key, value, None, 0.0, causal, query.shape[1] != key.shape[1])
    if query.device.type == "cpu":
        wide = widened(key, value)
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(query, key, wide, 0.0, causal, scale=scaling)
        out = out[..., : value.shape[3]]
    elif can_use_cudnn_attention(params) and _work(query, key) > PLANNED_FLOPS:
        out, lse, *_ = aten._scaled_dot_product_cudnn_attention(
            query, key, value, None, True, 0.0, causal, False, scale=scaling
        )
    elif can_use_flash_attention(params):
        out, lse, *_ = aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, scale=scaling)
    else:
        groups = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
        out, lse, *_ = aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=scaling
        )
    return out, lse.reshape(query.shape[0], query.shape[1], -1)[..., : query.shape[2]].float()


def _work(query: Tensor, key: Tensor) -> float:
    """Arithmetic of attention without a mask, FLOP."""
    return 4.0 * query.numel() * key.shape[2]
