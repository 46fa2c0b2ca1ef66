"""How much memory a step of tuning takes, estimated from a model's size; pure but for asking the device."""

from __future__ import annotations

from typing import Any

import torch

from ropewalk.errors import ModelError
from ropewalk.experiment.memory import amount
from ropewalk.models.size import ModelSize, size_of
from ropewalk.scoring.head import CHUNK_BYTES
from ropewalk.scoring.memory import weight_bytes

GRAIN = 1024
"""Lengths that are offered instead are multiples of so many tokens."""


PROCESSORS = 132
"""Of an H100, among which the keys of one head are divided."""
MARGIN = 1.1
"""For what allocations leave unused."""


def step_bytes(size: ModelSize, length: int) -> int:
    """Bytes of one step beside the weights: the input of every layer, one layer's activations with the gradients of its
    MLP or of its attention, and hidden states with theirs at the head."""
    element = size.element_bytes
    kept = element * size.hidden * size.layers * length
    turned = 2 * (size.queries + size.keys)
    attention = turned + 8 * size.queries // element  # the gain multiplies in float32, forth and back
    if size.device == "cuda":  # gradients of queries that are summed in one order wait for each other in float32
        attention += 4 * size.queries * -(-PROCESSORS // (size.queries // size.head_dim)) // element
    layer = element * length * (6 * size.hidden + turned + size.inner + max(size.inner, attention))
    head = 3 * element * size.hidden * length + 4 * CHUNK_BYTES[size.device]
    return round(MARGIN * (kept + max(layer, head)))


def require(model: Any, length: int) -> None:
    """Refuse a length that does not fit on a GPU.

    Raises:
        ModelError: with the longest that does.
    """
    device = model.get_output_embeddings().weight.device
    if device.type != "cuda" or getattr(model, "hf_device_map", None) is not None:
        return
    _refuse(size_of(model, model.dtype, device.type), length, torch.cuda.mem_get_info(device)[0])


def require_size(size: ModelSize, length: int) -> None:
    """The same before the weights are on the GPU. Raises ModelError."""
    if size.device == "cuda":
        _refuse(size, length, torch.cuda.mem_get_info()[0] - weight_bytes(size))


def _refuse(size: ModelSize, length: int, free: int) -> None:
    if step_bytes(size, length) <= free:
        return
    fits = next((n for n in range(length // GRAIN * GRAIN, 0, -GRAIN) if step_bytes(size, n) <= free), 0)
    raise ModelError(
        f"--length {length}: a step of tuning takes {amount(step_bytes(size, length))} beside the weights, "
        f"and {amount(max(0, free))} are free for it; the longest length that fits is {fits}."
    )
