"""Requests to export from, drawn and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ropewalk.export import Checkpoint, Request, request
from ropewalk.rope import RopeGeometry

GEOMETRY = RopeGeometry(rotary_dim=64, rope_theta=5e5, max_position_embeddings=4096)
LLAMA_3 = RopeGeometry(
    rotary_dim=64,
    rope_theta=5e5,
    max_position_embeddings=131072,
    original_max_position_embeddings=8192,
    rope_parameters={
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
)
EXAMPLES: dict[str, dict[str, Any]] = {
    "none": {},
    "linear": {"factor": 4},
    "ntk_aware": {"factor": 4},
    "ntk_by_parts": {"factor": 4},
    "dynamic_ntk": {"factor": 2},
    "yarn": {"factor": 4},
    "llama3": {"factor": 4},
    "longrope": {"factor": 4},
    "abf": {"rope_theta": 4e6},
    "mrrope": {"factor": 4},
    "proportional": {"factor": 4, "partial_rotary_factor": 0.25},
    "searched": {
        "file": {
            "schema": 1,
            "rope_theta": 5e5,
            "lambda": [1 + i / 8 for i in range(32)],
            "attention_factor": 1.1,
        }
    },
    "cope": {"factor": 4},
    "ntk_fixed": {"factor": 4},
    "ntk_mixed": {"factor": 4},
    "resonance": {"factor": 4},
}


def ask(method: str, length: int | None = None, **params: Any) -> Request:
    return ask_of(GEOMETRY, method, length, **params)


def ask_of(geometry: RopeGeometry, method: str, length: int | None = None, **params: Any) -> Request:
    return request(geometry, method, params, length, Checkpoint())


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(min_value=np.log(low), max_value=np.log(high)).map(lambda x: float(np.exp(x)))


@st.composite
def drawn(draw: st.DrawFn) -> tuple[str, dict[str, Any], int]:
    """Any method with any parameters, and a length; the ramps are wide for float32's sake, as in method parity."""
    method = draw(st.sampled_from(sorted(EXAMPLES)))
    params: dict[str, Any] = {}
    if method not in ("none", "abf", "searched"):
        params["factor"] = draw(log_uniform(1, 16) | st.just("auto") | st.sampled_from([2, 4]))
    low = draw(log_uniform(0.25, 4))
    high = low * draw(log_uniform(4, 16))
    if method == "llama3":
        params |= {"low_freq_factor": low, "high_freq_factor": high}
    if method == "ntk_by_parts":
        params |= {"alpha": low, "beta": high}
    if method == "yarn":
        params |= {"beta_slow": low, "beta_fast": high, "ramp": draw(st.sampled_from(["index", "turns"]))}
        params |= {"truncate": draw(st.booleans()), "mscale": draw(st.none() | st.floats(0.5, 2))}
    if method in ("yarn", "longrope"):
        params["attention_factor"] = draw(st.just("auto") | st.floats(0.5, 2))
    if method == "searched":
        divisors = sorted(draw(st.lists(log_uniform(1, 16), min_size=32, max_size=32)))
        params["file"] = EXAMPLES["searched"]["file"] | {
            "lambda": divisors,
            "attention_factor": draw(st.floats(0.5, 2)),
        }
    if method == "mrrope":
        params["mode"] = draw(st.sampled_from(["pro", "uni"]))
    if method == "abf":
        params["rope_theta"] = draw(log_uniform(1e3, 1e8))
    if method == "proportional":
        params["partial_rotary_factor"] = draw(st.sampled_from([0.25, 0.5, 1.0]))
    if method != "none":
        params["original_max_position_embeddings"] = draw(st.none() | st.sampled_from([1024, 2048]))
    return method, params, draw(st.sampled_from([512, 4096, 8192, 12345, 16384]))
