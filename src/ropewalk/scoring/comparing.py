"""Whether two ways to compute hidden states give the same ones, up to rounding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ropewalk.errors import ModelError
from ropewalk.methods import make_params, resolve
from ropewalk.models import geometry_of
from ropewalk.rope import Rotation
from ropewalk.scoring.foreign_errors import is_out_of_memory, release

REFUSALS = (ModelError, RuntimeError, ValueError, TypeError, AttributeError, IndexError, NotImplementedError)
"""What a path raises on a model that it was not made for."""


def two_rotations(model: Any) -> tuple[Rotation, Rotation]:
    """The shipped rotation, and one of half the frequencies."""
    own = resolve(geometry_of(model.config), "none", make_params("none", {}), 1).rotation
    return own, Rotation(inv_freq=own.inv_freq / 2, attention_factor=own.attention_factor)


def apart(expected: Tensor, found: Tensor) -> str | None:
    """How far hidden states `[B, N, H]` are off, relative to their norm, if that is more than rounding explains.

    Of a row's positions the median counts, as rounding to bfloat16 makes single ones of some models differ by half.
    """
    if expected.shape != found.shape:
        return f"hidden states of shape {list(found.shape)} for {list(expected.shape)}"
    allowed = max(1e-4, 8 * torch.finfo(expected.dtype).eps)
    expected, found = expected.float(), found.float()
    size = expected.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)  # of a padding token it may be 0
    off = ((expected - found).norm(dim=-1) / size).median(dim=-1).values.max().item()
    return None if off <= allowed else f"hidden states differ by {off:.2g} of their size (rounding: {allowed:.2g})"


def said(error: BaseException) -> str:
    """What a path raised, for a note."""
    if is_out_of_memory(error):
        release()
        return "it did not fit into memory"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
