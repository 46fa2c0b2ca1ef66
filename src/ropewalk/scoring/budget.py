"""How many positions one forward pass may take on this device, and whether compiling pays."""

from __future__ import annotations

from typing import Any

import torch

from ropewalk.models.size import ModelSize, size_of
from ropewalk.models.spread import gpus_of
from ropewalk.scoring.memory import rows_that_fit, weight_bytes

CPU_BATCH_BYTES = 2_400_000
"""Hidden states that a few cores keep in their cache: 4687 tokens of strand, 2083 of SmolLM2 in bfloat16."""

CUDA_BATCH_TOKENS = 196_608
"""More positions than this make no product faster."""

PARTS = 2
"""Of a batch per GPU of a model that is cut: each computes another batch meanwhile, and the first and last wait least
where batches are many."""

FREE_SHARE = 0.7
COMPILE_FLOPS = 5e15
"""A sweep of this much arithmetic takes a GPU about 15 s, more than compiling costs."""


def batch_tokens(model: Any, longest: int) -> int:
    """Positions per batch from free device memory; at least one row is tried whatever it says."""
    device = model.get_output_embeddings().weight.device
    size = size_of(model, model.dtype, device.type)
    if device.type != "cuda":
        return _cpu_tokens(size)
    gpus = gpus_of(model)
    return batch_rows(size, longest, min(torch.cuda.mem_get_info(each)[0] for each in gpus), len(gpus)) * longest


def batch_rows(size: ModelSize, longest: int, free_bytes: int, gpus: int = 1) -> int:
    """Rows of the longest length per batch, where `free_bytes` are left beside the weights on each of some GPUs."""
    if size.device != "cuda":
        return max(1, _cpu_tokens(size) // longest)
    most = CUDA_BATCH_TOKENS // (PARTS * gpus) if gpus > 1 else CUDA_BATCH_TOKENS
    return rows_that_fit(size, longest, most // longest, FREE_SHARE * free_bytes)


def in_flight(model: Any) -> int:
    """Batches that are begun before the first of them is waited for: one on a GPU of any make, one more for each that
    holds a part of the model, none on a CPU, which would compute nothing meanwhile."""
    return len(gpus_of(model)) or int(model.get_output_embeddings().weight.device.type != "cpu")


def _cpu_tokens(size: ModelSize) -> int:
    return CPU_BATCH_BYTES // (size.hidden * size.element_bytes)


def planned_rows(size: ModelSize, longest: int, *, spread: bool = False) -> int:
    """The same before the weights are loaded, onto one GPU or `spread` over all that show."""
    if size.device != "cuda":
        return batch_rows(size, longest, 0)
    gpus = torch.cuda.device_count() if spread else 1
    free = min(torch.cuda.mem_get_info(each)[0] for each in range(gpus)) - weight_bytes(size) // gpus
    return batch_rows(size, longest, free, gpus)


def pays_to_compile(model: Any, tokens: int) -> bool:
    """Whether a sweep of `tokens` positions is long enough for compiling layers, on a device where that helps."""
    weight = model.get_output_embeddings().weight
    return weight.device.type == "cuda" and 2.0 * model.num_parameters() * tokens > COMPILE_FLOPS
