"""ropewalk's rotary forward: the one that stock modules have, with other numbers and one rotation per row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ropewalk.errors import ModelError
from ropewalk.models.placement import upload
from ropewalk.rope import Rotation

if TYPE_CHECKING:
    from ropewalk.models.turning import Passing

CosSin = tuple[Tensor, Tensor]
"""cos and sin `[B, T, D]`, where D is rotary_dim, or half of it."""
Rotary = CosSin | Tensor
"""What a rotary module gives to attention: cos and sin, or both in one complex tensor `[B, T, rotary_dim/2]`."""

_ROTATIONS, _LAYOUT = "ropewalk_rotations", "ropewalk_layout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The way in which a model's attention wants cos and sin.

    Attributes:
        name: for people.
        angles: from `freqs [..., rotary_dim/2]` to the angles of which cos and sin are taken.
        is_complex: whether attention multiplies by `cos + i sin`.
    """

    name: str
    angles: Callable[[Tensor], Tensor]
    is_complex: bool = False

    def pair(self, rotary: Rotary) -> CosSin:
        """Cos and sin out of what a module of this layout gave."""
        return (rotary.real, rotary.imag) if isinstance(rotary, Tensor) else rotary


LAYOUTS = (
    Layout(name="halves", angles=lambda freqs: torch.cat((freqs, freqs), dim=-1)),  # Llama
    Layout(name="pairs", angles=lambda freqs: freqs.repeat_interleave(2, dim=-1)),  # Cohere
    Layout(name="half width", angles=lambda freqs: freqs),  # gpt-oss
    Layout(name="complex", angles=lambda freqs: freqs, is_complex=True),  # Llama 4
)


def forward_of(
    rotations: tuple[Rotation, ...],
    stock: Callable[..., Rotary],
    scaled: str | None,
    *,
    layout: Layout,
    casts: bool,
    device: torch.device | None = None,
    passing: Passing | None = None,
) -> Callable[..., Rotary]:
    """A rotary forward: `x [B, ...]`, `position_ids [B or 1, T]` -> cos and sin `[B, T, D]` (or B = 1), where D is
    rotary_dim, or half of it.

    Elementwise float32 throughout: autocast touches none of these operations.

    Args:
        rotations: R of them, R = 1 or B.
        stock: what layers of other types than `scaled` get.
        scaled: the layer type that the rotations are for; None if the model has one kind.
        layout: what stock's own cos and sin look like.
        casts: whether cos and sin take the dtype of x, or stay float32.
        device: where the numbers wait.
        passing: is told of every forward pass, for attention's own part; under its branches attention is what turns,
            and nothing does here.
    """
    rows = len(rotations)
    inv_freq = np.stack([r.inv_freq for r in rotations]).astype(np.float32)
    inv_freq_R1D = upload(inv_freq, device).unsqueeze(1)
    factors = np.array([r.attention_factor for r in rotations], dtype=np.float32)
    factor_R11 = upload(factors, device).view(rows, 1, 1)

    @torch.no_grad()
    def forward(x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> Rotary:
        if scaled is not None and layer_type != scaled:
            return stock(x, position_ids, layer_type)
        _check_rows(rows, x)
        places = _text_positions(position_ids)
        if passing is not None:
            passing.begin(places)
            if passing.schemes[0].branches:
                return still(x, places, layout=layout, casts=casts, pairs=inv_freq_R1D.shape[-1])
        freqs_BTD = places[..., None].float() * inv_freq_R1D.to(x.device)
        angle_BTD = layout.angles(freqs_BTD)
        factor = factor_R11.to(x.device)
        return given(angle_BTD.cos() * factor, angle_BTD.sin() * factor, x, layout=layout, casts=casts)

    branches = passing is not None and passing.schemes[0].branches
    setattr(forward, _ROTATIONS, (_none_turns(rotations[0]),) if branches else rotations)
    setattr(forward, _LAYOUT, layout)
    return forward


def _none_turns(rotation: Rotation) -> Rotation:
    """The rotation that a module gives where attention is what turns."""
    return Rotation(inv_freq=np.zeros_like(rotation.inv_freq))


def still(x: Tensor, places: Tensor, *, layout: Layout, casts: bool, pairs: int) -> Rotary:
    """What a rotary module gives where nothing turns: x `[B, T, ...]` gives the dtype, places are `[B, T]`."""
    angle_BTD = layout.angles(torch.zeros(*places.shape, pairs, device=x.device))
    return given(angle_BTD.cos(), angle_BTD.sin(), x, layout=layout, casts=casts)


def given(cos: Tensor, sin: Tensor, x: Tensor, *, layout: Layout, casts: bool) -> Rotary:
    """Cos and sin `[B, T, D]` as attention wants them, in the dtype of x."""
    if layout.is_complex:
        return torch.complex(cos, sin)
    return (cos.to(x.dtype), sin.to(x.dtype)) if casts else (cos, sin)


def _check_rows(rows: int, x: Tensor) -> None:
    """Refuse a batch of another size; x is `[B, T, H]`, or has heads (Moshi) or streams (Gemma 3n) beside B."""
    if rows != 1 and rows not in x.shape[: max(1, x.ndim - 2)]:
        raise ModelError(
            f"{rows} rotations were given for a batch of {x.shape[0]} rows; give one for all rows, or one per row."
        )


def _text_positions(position_ids: Tensor) -> Tensor:
    """`[B, T]`, also out of the `[3, B, T]` of models that see images (Qwen 3.5): on text all three axes are equal."""
    if position_ids.ndim == 2:
        return position_ids
    if position_ids.ndim == 3 and bool((position_ids == position_ids[:1]).all()):
        return position_ids[0]
    raise ModelError(
        f"position_ids of shape {list(position_ids.shape)} are not those of text; ropewalk measures text alone."
    )


def rotations_of(forward: Callable[..., Any]) -> tuple[Rotation, ...] | None:
    """What `forward_of` made it to give, under branches one that stands still; None if something else made it."""
    return getattr(forward, _ROTATIONS, None)


def layout_made(forward: Callable[..., Any]) -> Layout:
    """The layout of a forward that `forward_of` made."""
    return getattr(forward, _LAYOUT)
