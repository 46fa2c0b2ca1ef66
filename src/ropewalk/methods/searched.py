"""A rotation of one model: one divisor per pair and a temperature, from a file that a search wrote before `tuned`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ropewalk.errors import MethodError
from ropewalk.methods.method import KIND, Extension, Method
from ropewalk.methods.parameters import Choice
from ropewalk.methods.rotation_file import REMEDY, Divisors, RotationFile
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched(Extension):
    method: ClassVar[str] = "searched"
    file: Divisors = field(
        metadata={KIND: RotationFile(doc="lambda per pair and A, as found by search", remedy=REMEDY)}
    )
    windows: str = field(
        default="one",
        metadata={KIND: Choice(options=("one", "two"), doc="two: lambda of the file beyond the window, 1 inside it")},
    )


def searched(geometry: RopeGeometry, params: Searched, length: int) -> Rotation:
    """lambda_i and A as the file says, at every length.

    With `windows: two` lambda_i = 1 for L <= L0, under the same A: the form of LongRoPE's two lists, which has one A.

    Raises:
        MethodError: the file is for another number of pairs or another base.
    """
    found, pairs = params.file, geometry.rotary_dim // 2
    if len(found.divisors) != pairs or found.rope_theta != geometry.rope_theta:
        raise MethodError(
            f"searched: file is for {len(found.divisors)} pairs over rope_theta {found.rope_theta:g}, and this model "
            f"has {pairs} over {geometry.rope_theta:g}; tune on this model (ropewalk tune)."
        )
    inside = params.windows == "two" and length <= params.window
    divisors = np.ones(pairs) if inside else np.array(found.divisors)
    return Rotation(inv_freq=geometry.unscaled_inv_freq / divisors, attention_factor=found.attention_factor)


def switches(geometry: RopeGeometry, params: Searched) -> bool:
    """The rotation changes at the window."""
    return searched(geometry, params, params.window) != searched(geometry, params, params.window + 1)


def two_windows(params: Searched) -> str | None:
    """`windows: two`."""
    return "windows=one" if params.windows == "two" else None


METHOD = Method(
    name="searched",
    params=Searched,
    function=searched,
    paper="the idea of a searched list: Ding et al. 2024, arXiv:2402.13753",
    summary="A rotation found for one model, in the files that came before `tuned`; lambda per pair.",
    formula="lambda_i and A as the file says; with windows: two lambda_i = 1 for L <= L0",
    varies=switches,
    two_windows=two_windows,
)
