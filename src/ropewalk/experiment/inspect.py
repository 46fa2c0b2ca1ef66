"""What `ropewalk inspect` says of a model."""

from __future__ import annotations

import math
from typing import Any

from ropewalk.experiment.prepare import geometry_facts
from ropewalk.methods import make_params, resolve
from ropewalk.rope import RopeGeometry, windows


def facts(geometry: RopeGeometry) -> dict[str, Any]:
    """The geometry with its wavelengths in tokens, as JSON values: those of the shipped rotation within the window.

    A pair that the model does not turn has none.
    """
    window = geometry.window("replace").length
    shipped = resolve(geometry, "none", make_params("none", {}), window).rotation
    wavelengths = [2 * math.pi / f if f else None for f in shipped.inv_freq.tolist()]
    slow = [i for i, w in enumerate(wavelengths) if w is None or w > window]
    return geometry_facts(geometry) | {
        "attention_factor": shipped.attention_factor,
        "softmax_factor": shipped.softmax_factor,
        "fingerprint": shipped.fingerprint,
        "wavelengths": wavelengths,
        "dimensions_below_one_turn": slow,
    }


def lines(name: str, found: dict[str, Any]) -> list[str]:
    """The facts of a model for people."""
    turning, slow = [w for w in found["wavelengths"] if w is not None], found["dimensions_below_one_turn"]
    pairs, still = len(found["wavelengths"]), len(found["wavelengths"]) - len(turning)
    return [
        f"{name}: {windows(found)}, rope_type {found['rope_type']}, rope_theta {found['rope_theta']:g}, rotary_dim "
        f"{found['rotary_dim']}, fingerprint {found['fingerprint']}",
        f"wavelengths {turning[0]:.2f} to {turning[-1]:.0f} tokens; {len(slow)} of {pairs} pairs never complete a turn "
        "in the window"
        + (f" (from pair {slow[0]} on)" if slow else "")
        + (f", {still} of them do not turn at all" if still else ""),
    ]
