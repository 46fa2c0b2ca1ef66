"""What a checkpoint ships in `rope_parameters` beside its rotation, and every export has to keep."""

from __future__ import annotations

import math
from typing import Any

from ropewalk.export.request import Request
from ropewalk.methods.blend import temperature
from ropewalk.methods.yarn import Yarn

CARRIED = ("partial_rotary_factor", "mrope_section", "mrope_interleaved", "llama_4_scaling_beta")
"""Keys that say how a model lays out its heads or sharpens its queries, and not how its rotation is scaled."""

ORIGINAL = "original_max_position_embeddings"

SOFTMAX_MSCALE = frozenset(
    {
        "axk1",
        "axk2",
        "bailing_hybrid",
        "deepseek_v2",
        "deepseek_v3",
        "deepseek_v32",
        "glm4_moe_lite",
        "glm_moe_dsa",
        "hy_v4",
        "longcat_flash",
        "minicpm3",
        "mistral4",
        "mistral_large4",
        "youtu",
    }
)
"""Models whose attention multiplies its softmax scale by (0.1 mscale_all_dim ln factor + 1)^2 out of rope_parameters,
unless rope_type is default (DeepSeek)."""


def query_window(asked: Request) -> int | None:
    """Tokens after which a model that ships a query temperature raises it (Ministral 3, Mistral 4), else None.

    tau(i) = 1 + llama_4_scaling_beta ln(1 + floor(i / original_max_position_embeddings)); attention reads both keys
    from rope_parameters, whatever the rope_type.
    """
    shipped = asked.geometry.rope_parameters
    return shipped.get(ORIGINAL) if shipped.get("llama_4_scaling_beta") is not None else None


def original(asked: Request) -> int:
    """`original_max_position_embeddings` where the rotation does not depend on it, as with equal lists."""
    return query_window(asked) or asked.window


def softmax_mscale(asked: Request) -> float:
    """The number whose square multiplies the softmax scale of a SOFTMAX_MSCALE model; 1 in any other.

    It is part of a scaling: what ships it goes with what ships, and yarn brings its own where mscale_all_dim is given.
    """
    if asked.checkpoint.model_type not in SOFTMAX_MSCALE:
        return 1.0
    shipped, params = asked.geometry.rope_parameters, asked.params
    kept = asked.shipped_type != "default" and (asked.method == "none" or asked.stacked)
    scale = _mscale(shipped.get("factor"), shipped.get("mscale_all_dim")) if kept else 1.0
    return scale * (_mscale(params.s, params.mscale_all_dim) if isinstance(params, Yarn) else 1.0)


def _mscale(factor: float | None, mscale_all_dim: float | None) -> float:
    return temperature(factor, mscale_all_dim) if factor and factor > 1 and mscale_all_dim else 1.0


def with_softmax_mscale(asked: Request, rope: dict[str, Any]) -> dict[str, Any]:
    """The form with the mscale_all_dim that gives the softmax scale; longrope, whose factor nothing else reads, with a
    factor to go with it."""
    scale = softmax_mscale(asked)
    if scale == 1.0:
        return rope
    factor = max(2.0, rope["factor"]) if rope["rope_type"] == "longrope" else rope["factor"]
    return rope | {"factor": factor, "mscale_all_dim": (scale - 1.0) / (0.1 * math.log(factor))}
