"""ropewalk's rotary forward: the one that stock modules have, with other numbers and one rotation per row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ropewalk.errors import ModelError
from ropewalk.models.placement import upload
from ropewalk.rope import Rotation

CosSin = tuple[torch.Tensor, torch.Tensor]

_ROTATIONS = "ropewalk_rotations"


def forward_of(
    rotations: tuple[Rotation, ...],
    stock: Callable[..., CosSin],
    scaled: str | None,
    *,
    casts: bool,
    device: torch.device | None = None,
) -> Callable[..., CosSin]:
    """A rotary forward: `x [B, ...]`, `position_ids [B or 1, T]` -> cos and sin `[B, T, rotary_dim]` (or B = 1).

    Elementwise float32 throughout: autocast touches none of these operations.

    Args:
        rotations: R of them, R = 1 or B.
        stock: what layers of other types than `scaled` get.
        scaled: the layer type that the rotations are for; None if the model has one kind.
        casts: whether cos and sin take the dtype of x, or stay float32.
        device: where the numbers wait.
    """
    rows = len(rotations)
    inv_freq = np.stack([r.inv_freq for r in rotations]).astype(np.float32)
    inv_freq_R1D = upload(inv_freq, device).unsqueeze(1)
    factors = np.array([r.attention_factor for r in rotations], dtype=np.float32)
    factor_R11 = upload(factors, device).view(rows, 1, 1)

    @torch.no_grad()
    def forward(x: torch.Tensor, position_ids: torch.Tensor, layer_type: str | None = None) -> CosSin:
        if scaled is not None and layer_type != scaled:
            return stock(x, position_ids, layer_type)
        if rows not in (1, x.shape[0]):
            raise ModelError(
                f"{rows} rotations were given for a batch of {x.shape[0]} rows; give one for all rows, or one per row."
            )
        freqs_BTD = _text_positions(position_ids)[..., None].float() * inv_freq_R1D.to(x.device)
        angle_BTD = torch.cat((freqs_BTD, freqs_BTD), dim=-1)
        factor = factor_R11.to(x.device)
        cos, sin = angle_BTD.cos() * factor, angle_BTD.sin() * factor
        return (cos.to(x.dtype), sin.to(x.dtype)) if casts else (cos, sin)

    setattr(forward, _ROTATIONS, rotations)
    return forward


def _text_positions(position_ids: torch.Tensor) -> torch.Tensor:
    """`[B, T]`, also out of the `[3, B, T]` of models that see images (Qwen 3.5): on text all three axes are equal."""
    if position_ids.ndim == 2:
        return position_ids
    if position_ids.ndim == 3 and bool((position_ids == position_ids[:1]).all()):
        return position_ids[0]
    raise ModelError(
        f"position_ids of shape {list(position_ids.shape)} are not those of text; ropewalk measures text alone."
    )


def rotations_of(forward: Callable[..., Any]) -> tuple[Rotation, ...] | None:
    """What `forward_of` made it for; None if something else made it."""
    return getattr(forward, _ROTATIONS, None)
