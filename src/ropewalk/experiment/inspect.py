"""What `ropewalk inspect` says of a model."""

from __future__ import annotations

import math
from typing import Any

from ropewalk.experiment.prepare import geometry_facts
from ropewalk.methods import make_params, resolve
from ropewalk.rope import RopeGeometry


def facts(geometry: RopeGeometry) -> dict[str, Any]:
    """The geometry with its wavelengths in tokens (those of the shipped rotation within the window); JSON values."""
    window = geometry.window("replace").length
    shipped = resolve(geometry, "none", make_params("none", {}), window).rotation
    wavelengths = [2 * math.pi / f if f else None for f in shipped.inv_freq.tolist()]
    slow = [i for i, w in enumerate(wavelengths) if w is None or w > window]
    return geometry_facts(geometry) | {
        "attention_factor": shipped.attention_factor,
        "fingerprint": shipped.fingerprint,
        "wavelengths": wavelengths,
        "dimensions_below_one_turn": slow,
    }
