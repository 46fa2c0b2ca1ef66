"""How much memory a step of tuning takes, estimated from a model's size; pure but for asking the device."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from ropewalk.errors import ModelError
from ropewalk.experiment.memory import amount
from ropewalk.models.placement import SPREADS, torch_device
from ropewalk.models.size import ModelSize, size_of
from ropewalk.models.spread import gpus_of
from ropewalk.scoring.foreign_errors import is_out_of_memory
from ropewalk.scoring.head import CHUNK_BYTES
from ropewalk.scoring.memory import weight_bytes

_Made = TypeVar("_Made")

GRAIN = 1024
"""Lengths that are offered instead are multiples of so many tokens."""


PROCESSORS = 132
"""Of an H100, among which the keys of one head are divided."""
MARGIN = 1.1
"""For what allocations leave unused."""
KEPT = {"cuda": 0.75, "cpu": 0.25}
"""Of free memory, the part in which layers may keep what the backward pass needs; other processes share a CPU's."""


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


def kept_bytes(size: ModelSize, length: int) -> int:
    """Bytes that all layers keep for the backward pass if none is computed again. Weights have no gradient, so products
    with them keep nothing: it is two norms in float32, both factors of rotation and gain, attention's arguments, and
    an MLP's activation and its gate."""
    element = size.element_bytes
    turned = (4 if size.sliding_window is None else 8) * (size.queries + size.keys)
    layer = 8 * size.hidden + 4 * size.queries + element * (turned + size.inner)
    return round(MARGIN * size.layers * layer * length)


def room_of(model: Any) -> Room:
    """As many tokens as fit into free memory with all that their layers keep for the backward pass."""
    device = model.get_output_embeddings().weight.device.type
    size, gpus = size_of(model, model.dtype, device), gpus_of(model)
    free = len(gpus) * min(map(_unused, gpus)) if gpus else _rest(size)
    fixed, each = step_bytes(size, 0), step_bytes(size, GRAIN) - step_bytes(size, 0) + kept_bytes(size, GRAIN)
    return Room(max(0, math.floor(GRAIN * (KEPT[device] * free - fixed) / each)))


def require(model: Any, length: int) -> None:
    """Refuse a length that does not fit beside the weights.

    Raises:
        ModelError: with the longest that does.
    """
    device = model.get_output_embeddings().weight.device.type
    size, gpus = size_of(model, model.dtype, device), gpus_of(model)
    _refuse(size, length, sum(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus) if gpus else _rest(size))


def require_size(size: ModelSize, length: int, device_map: str | None) -> None:
    """The same before the weights are where `device_map` will put them. Raises ModelError."""
    if size.device == "cuda":
        several = device_map in SPREADS
        gpus = range(torch.cuda.device_count()) if several else [torch_device(None, device_map)]
        _refuse(size, length, sum(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus) - weight_bytes(size))
    else:
        _refuse(size, length, _rest(size))


@dataclass(slots=True, eq=False)
class Room:
    """How many tokens' layers keep what the backward pass needs. Of longer texts they are computed again, which gives
    the same numbers in more time, a third at most where it was measured."""

    tokens: int


def fitted(length: int, room: Room, make: Callable[[], _Made], clear: Callable[[], None]) -> _Made:
    """What `make` gives in a step of a length that the estimate let pass; if more was to be kept than fits, `clear`
    drops what is half made, and it is made again with nothing kept.

    Raises:
        ModelError: it does not fit after all.
    """
    with _fitting(length):
        try:
            return make()
        except (MemoryError, RuntimeError) as error:
            if not room.tokens or not is_out_of_memory(error):
                raise
        room.tokens = 0
        clear()
        torch.cuda.empty_cache()
        return make()


@contextlib.contextmanager
def _fitting(length: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"--length {length}: a step of tuning did not fit into the memory that was free; the steps before it are "
            "kept, so free some and give the same command again, or a shorter --length."
        ) from None


def _unused(gpu: torch.device) -> int:
    """Free bytes of a GPU, and those that torch holds and does not use."""
    return torch.cuda.mem_get_info(gpu)[0] + torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)


def _rest(size: ModelSize) -> int:
    """All memory of the machine but the weights: what other programs hold now they may give back."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") - weight_bytes(size)


def _refuse(size: ModelSize, length: int, free: int) -> None:
    if step_bytes(size, length) <= free:
        return
    fits = next((n for n in range(length // GRAIN * GRAIN, 0, -GRAIN) if step_bytes(size, n) <= free), 0)
    remedy = f"the longest length that fits is {fits}" if fits else "take a smaller model, or a machine with more"
    raise ModelError(
        f"--length {length}: a step of tuning takes {amount(step_bytes(size, length))} beside the weights, "
        f"and {amount(max(0, free))} are free for it; {remedy}."
    )
