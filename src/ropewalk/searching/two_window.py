"""Two rotations, one inside the window and one beyond it, as LongRoPE's lists with the switch; pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from ropewalk.errors import MethodError
from ropewalk.rope import RopeGeometry, Rotation


def short_of(geometry: RopeGeometry, long: Rotation) -> Rotation:
    """The unscaled rotation under the other's A: LongRoPE has one A for both lists."""
    return Rotation(inv_freq=geometry.unscaled_inv_freq, attention_factor=long.attention_factor)


def two_windows(geometry: RopeGeometry, short: Rotation, long: Rotation, length: int) -> dict[str, Any]:
    """Parameters of the method `longrope`: `short` up to the window, `long` beyond it (arXiv:2402.13753).

    Raises:
        MethodError: the two have different attention factors, which one `longrope` cannot have.
    """
    if not np.isclose(short.attention_factor, long.attention_factor, rtol=1e-6):
        raise MethodError(
            f"longrope: a short rotation with attention_factor {short.attention_factor:.6g} and a long one with "
            f"{long.attention_factor:.6g} cannot share one list form; give both the same."
        )
    lists = {"short_factor": short, "long_factor": long}
    return {
        "factor": length / geometry.window().length,
        **{name: (geometry.unscaled_inv_freq / each.inv_freq).tolist() for name, each in lists.items()},
        "attention_factor": long.attention_factor,
    }
