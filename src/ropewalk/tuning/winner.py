"""The file of what was tuned: rotation and gains, and where they come from, as safetensors with a schema version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from ropewalk.methods.tuned_file import SCHEMA
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Scheme
from ropewalk.tuning.pairs import Turning

FILE = "winner.safetensors"
KEY = "ropewalk"


def content(scheme: Scheme, geometry: RopeGeometry, turns: Turning, facts: Mapping[str, Any]) -> bytes:
    """The file's bytes.

    Tensors: `inv_freq` float64 `[P]`, rad/token; `attention_factor` float64 `[1]`; `pairs` int64 `[D]`, the pair of
    each dimension of a head, -1 where it does not turn; `gains` float32 `[layers, heads, P]`, where there are some.
    Metadata: `ropewalk`, JSON with the schema, rope_theta, `near` where all this is for farther tokens alone, and
    `facts`.
    """
    rotation = scheme.far
    tensors = {
        "inv_freq": rotation.inv_freq.copy(),
        "attention_factor": np.array([rotation.attention_factor]),
        "pairs": turns.pairs,
    }
    gains = scheme.branches[-1].gains if scheme.branches else scheme.gains
    if gains is not None:
        tensors["gains"] = np.ascontiguousarray(gains.log)  # safetensors writes the buffer of a view as it is
    note = {"schema": SCHEMA, "rope_theta": geometry.rope_theta} | dict(facts)
    if scheme.branches:
        note["near"] = scheme.branches[0].stop
    return safetensors.numpy.save(tensors, {KEY: json.dumps(note, ensure_ascii=False)})
