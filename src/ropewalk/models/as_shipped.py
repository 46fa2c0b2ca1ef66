"""Proof, on the model at hand, that its configuration was read as the model reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ModelError
from ropewalk.methods.none import shipped
from ropewalk.models.layout import rotary_module
from ropewalk.rope import RopeGeometry

TOLERANCE = 1e-4
"""Relative: frequencies are float32 there and float64 here, and steep ramps take ten times that of what both round."""


def check_shipped(model: Any, geometry: RopeGeometry) -> None:
    """Compare the rotation of a freshly loaded model with the one that `none` would run inside the window.

    Raises:
        ModelError: they differ, so the architecture reads its configuration in a way of its own.
    """
    module = rotary_module(model)
    prefix = "" if geometry.layer_type is None else f"{geometry.layer_type}_"
    own, ours = getattr(module, f"{prefix}inv_freq", None), shipped(geometry, 1)
    if own is None:
        return
    found = own.detach().double().cpu().numpy().ravel()
    factor = float(getattr(module, f"{prefix}attention_scaling", 1.0))
    same = found.shape == ours.inv_freq.shape and np.allclose(found, ours.inv_freq, rtol=TOLERANCE, atol=0)
    if not same or not np.isclose(factor, ours.attention_factor, rtol=TOLERANCE, atol=0):
        raise ModelError(
            f"{type(module).__name__} turns {_short(found, factor)}, where its configuration reads as "
            f"{_short(ours.inv_freq, ours.attention_factor)}; ropewalk measures no such model yet."
        )


def _short(inv_freq: NDArray[np.float64], factor: float) -> str:
    """A few words about inv_freq `[rotary_dim/2]`."""
    return f"{inv_freq.size} pairs by {inv_freq.max():.4g} to {inv_freq.min():.4g} rad/token with A = {factor:.6g}"
