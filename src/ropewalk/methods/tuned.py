"""A scheme that was found by gradient descent: one divisor per pair, a temperature, and gains of the query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ropewalk.errors import MethodError
from ropewalk.methods.method import KIND, Method, Params
from ropewalk.methods.near_far import near_far
from ropewalk.methods.tuned_file import REMEDY, TunedFile, Tuning
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Positions, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned(Params):
    method: ClassVar[str] = "tuned"
    file: Tuning = field(
        metadata={KIND: TunedFile(doc="rotation and gains, as found by gradient descent", remedy=REMEDY)}
    )


def tuned(geometry: RopeGeometry, params: Tuned, length: int) -> Scheme:
    """lambda_i, A and g as the file says (`ropewalk tune`), at every length; pairs of the query times exp(g).

    Of a file that was tuned with `near` rotation and gains are for tokens at least so far away, as in `bifocal`.

    Raises:
        MethodError: the file is for another number of pairs or another base.
    """
    found, pairs = params.file, geometry.rotary_dim // 2
    if found.rotation.inv_freq.size != pairs or found.rope_theta != geometry.rope_theta:
        raise MethodError(
            f"tuned: file is for {found.rotation.inv_freq.size} pairs over rope_theta {found.rope_theta:g}, and this "
            f"model has {pairs} over {geometry.rope_theta:g}; tune again on this model."
        )
    if found.near is not None:
        return near_far(geometry, found.near, query=Positions(), far=found.rotation, gains=found.gains)
    return Scheme(rotation=found.rotation, gains=found.gains)


METHOD = Method(
    name="tuned",
    params=Tuned,
    function=tuned,
    paper="ropewalk tune (gradient descent on this model)",
    summary="A rotation and gains of the query that were tuned on this model; gains fold into its weights.",
    formula="lambda_i, A and exp(g) as the file says",
)
