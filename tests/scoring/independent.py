"""A Llama in float64 that knows nothing of positions but a table of distances: what schemes are held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Told = tuple[np.ndarray, np.ndarray, np.ndarray, float] | tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]
"""Where pairs of places are seen, bool `[T, T]`; the distance they are told; inv_freq; A; and gains of the query there,
g `[layers, heads, P]`."""


def logits_of(
    model: Any, ids: np.ndarray, told: Sequence[Told], *, tau: np.ndarray | None = None, gains: np.ndarray | None = None
) -> Tensor:
    """`[T, V]` by the formula: a logit is A^2 tau / sqrt(D) times the sum of Re(q conj(k) exp(i distance inv_freq))."""
    config, state = model.config, {name: value.double() for name, value in model.state_dict().items()}
    hidden = state["model.embed_tokens.weight"][torch.from_numpy(ids.astype(np.int64))]
    for layer in range(config.num_hidden_layers):
        own = {k.split(f"layers.{layer}.")[1]: v for k, v in state.items() if f"layers.{layer}." in k}
        x = norm(hidden, own["input_layernorm.weight"], config.rms_norm_eps)
        q, k, v = ((x @ own[f"self_attn.{n}_proj.weight"].T).unflatten(-1, (-1, config.head_dim)) for n in "qkv")
        heads = []
        for head in range(config.num_attention_heads):
            group = head * config.num_key_value_heads // config.num_attention_heads
            gain = np.ones(config.head_dim // 2) if gains is None else np.exp(gains[layer, head])
            told_here = [(*each[:4], np.exp(each[4][layer, head]) if len(each) == 5 else 1.0) for each in told]
            weights = weights_of(q[:, head], k[:, group], told_here, gain, np.ones(len(ids)) if tau is None else tau)
            heads.append(weights @ v[:, group])
        hidden = hidden + torch.cat(heads, -1) @ own["self_attn.o_proj.weight"].T
        x = norm(hidden, own["post_attention_layernorm.weight"], config.rms_norm_eps)
        gate, up, down = (own[f"mlp.{n}_proj.weight"].T for n in ("gate", "up", "down"))
        hidden = hidden + (torch.nn.functional.silu(x @ gate) * (x @ up)) @ down
    return norm(hidden, state["model.norm.weight"], config.rms_norm_eps) @ state["lm_head.weight"].T


def weights_of(q: Tensor, k: Tensor, told: Sequence[Any], gain: np.ndarray, tau: np.ndarray) -> Tensor:
    """Attention's weights `[T, T]` of one head: q and k `[T, D]`, paired in halves; the factor of each branch last."""
    half = q.shape[1] // 2
    turning = [torch.complex(part[:, :half], part[:, half:]) for part in (q, k)]
    product = turning[0][:, None] * turning[1][None].conj() * torch.from_numpy(gain)
    logits = torch.full((len(q), len(q)), -torch.inf, dtype=torch.float64)
    for seen, distance, inv_freq, factor, own in told:
        angle = torch.from_numpy(np.nan_to_num(distance)[..., None] * inv_freq)
        value = (product * torch.as_tensor(own) * torch.polar(torch.ones_like(angle), angle)).real.sum(-1)
        logits = torch.where(torch.from_numpy(seen), value * factor**2 / (2 * half) ** 0.5, logits)
    return (logits * torch.from_numpy(tau)[:, None]).softmax(-1)


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight
