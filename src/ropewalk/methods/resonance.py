"""Resonance: wavelengths are whole numbers of tokens (arXiv:2403.00071)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ropewalk.methods.method import Method
from ropewalk.methods.on_top import OnTop, below
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Resonance(OnTop):
    method: ClassVar[str] = "resonance"


def resonance(geometry: RopeGeometry, params: Resonance, length: int) -> Rotation:
    """inv_freq_i = 2 pi / round(2 pi / inv_freq_i) of the method below, and its A (arXiv:2403.00071).

    A pair then meets the same angles in every turn, so that positions beyond the window bring it no new ones.
    Rounds at factor 1 too, and fast dimensions most: the first, of 2 pi tokens, gets 6.
    """
    rotation = below(geometry, params, length)
    return replace(rotation, inv_freq=2 * math.pi / np.round(2 * math.pi / rotation.inv_freq))


METHOD = Method(
    name="resonance",
    params=Resonance,
    function=resonance,
    paper="Wang et al. 2024, arXiv:2403.00071",
    summary="On top of another method: each wavelength rounded to whole tokens; the paper finetunes.",
    formula="inv_freq_i = 2 pi / round(2 pi / inv_freq_i) of the method below; A of the method below",
)
