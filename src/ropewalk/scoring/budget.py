"""How many positions one forward pass may take on this device, and whether compiling pays."""

from __future__ import annotations

from typing import Any

import torch

CPU_BATCH_TOKENS = 2048
"""Enough rows to fill a few cores' matrix products; more only falls out of the cache."""

CUDA_BATCH_TOKENS = 131_072
"""More positions than this make no product faster."""

FREE_SHARE = 0.5
COMPILE_FLOPS = 5e15
"""A sweep of this much arithmetic takes a GPU about 15 s, more than compiling costs."""


def batch_tokens(model: Any, longest: int) -> int:
    """Positions per batch from free device memory; at least one row of `longest` is tried whatever it says."""
    weight = model.get_output_embeddings().weight
    if weight.device.type != "cuda":
        return max(CPU_BATCH_TOKENS, longest)
    free, _ = torch.cuda.mem_get_info(weight.device)
    config = model.config.get_text_config()
    per_token = weight.element_size() * (16 * config.hidden_size + 2 * config.vocab_size // 1024)
    return max(1, min(CUDA_BATCH_TOKENS, int(free * FREE_SHARE / per_token)))


def pays_to_compile(model: Any, tokens: int) -> bool:
    """Whether a sweep of `tokens` positions is long enough for compiling layers, on a device where that helps."""
    weight = model.get_output_embeddings().weight
    return weight.device.type == "cuda" and 2.0 * model.num_parameters() * tokens > COMPILE_FLOPS
