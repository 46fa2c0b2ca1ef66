"""CoPE: the slowest dimensions are slowed down to a stop (arXiv:2602.05258)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from ropewalk.methods.blend import Pairs
from ropewalk.methods.method import FACTOR, KIND, Auto, Method
from ropewalk.methods.on_top import OnTop, below
from ropewalk.methods.parameters import Number
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Cope(OnTop):
    method: ClassVar[str] = "cope"
    factor: float | Auto = field(default=1.0, metadata={KIND: FACTOR})
    share: float = field(
        default=20 / 64,
        metadata={KIND: Number(minimum=0, maximum=1, doc="share of pairs, the slowest, that are slowed down")},
    )


def cope(geometry: RopeGeometry, params: Cope, length: int) -> Rotation:
    """inv_freq of the method below times (1 + cos(pi k/(n-1)))/2 for the slowest n pairs, k = 0..n-1; its A.

    arXiv:2602.05258: a soft clip, so that the last pair stands still. n = floor(share d/2), 20 of 64 in the paper. One
    pair alone is left as it is. The paper trains the model with it; without training it takes away what slow
    dimensions say.
    """
    rotation = below(geometry, params, length)
    return replace(rotation, inv_freq=rotation.inv_freq * taper(rotation.inv_freq.size, params.share))


def taper(pairs: int, share: float) -> Pairs:
    """Ones, and half a period of a raised cosine at the end."""
    n = int(share * pairs)
    return np.concatenate([np.ones(pairs - n), (1.0 + np.cos(np.linspace(0.0, math.pi, n))) / 2.0])


METHOD = Method(
    name="cope",
    params=Cope,
    function=cope,
    paper="arXiv:2602.05258 (CoPE)",
    summary="For checkpoints trained with it: slow dimensions fade out softly, on top of any scaling.",
    formula="inv_freq_i times (1 + cos(pi k/(n-1)))/2 for the slowest n = floor(share d/2) pairs; A as below",
)
