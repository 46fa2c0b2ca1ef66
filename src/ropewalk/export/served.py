"""What vLLM and SGLang have in common: overrides of a configuration in Hugging Face's words."""

from __future__ import annotations

import math
from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export.beside import ORIGINAL, SOFTMAX_MSCALE, original, softmax_mscale
from ropewalk.export.engine import Made, Order
from ropewalk.export.forms import Rope, named, plain, universal
from ropewalk.export.request import Request
from ropewalk.methods.blend import temperature
from ropewalk.methods.none import shipped_varies

INTERLEAVED = frozenset(
    {"gptj", "cohere", "cohere2", "glm", "glm4", "chatglm", "deepseek_v2", "deepseek_v3", "llama4_text", "ernie4_5"}
)
"""Models that rotate neighbouring dimensions (GPT-J style), which the engines' longrope cannot."""

DEEPSEEK_YARN = frozenset({"deepseek_v2", "deepseek_v3", "deepseek_v32"})
"""Models for which both engines read every scaling as DeepSeek's yarn: bounds rounded, A from mscale alone."""


def as_shipped(asked: Request) -> bool:
    """`none`, and the engine can run it so: one rotation, within the context that the checkpoint names."""
    if asked.method != "none" or shipped_varies(asked.geometry):
        return False
    return asked.length <= asked.geometry.max_position_embeddings


def reaches(asked: Request, rope: Rope) -> bool:
    """Whether the engine's tables go so far: for linear and yarn they end at factor x window."""
    if rope["rope_type"] in ("linear", "yarn"):
        return asked.length <= rope["factor"] * asked.window
    return True


def served_form(asked: Request, engine: str) -> Rope:
    """By name where the engine has the method and its tables reach the length, else longrope.

    Raises:
        ExportError: neither.
    """
    rope = named(asked)
    if rope is None or rope["rope_type"] == "proportional" or not reaches(asked, rope):
        rope = universal(asked)
    reason = _misread(asked, rope)
    if reason is not None:
        raise ExportError(
            f"{engine}: cannot run {asked.method} at {asked.length} tokens on this model, as {reason}; the nearest "
            "that can is --target hf, or a method that only changes rope_theta (ntk_aware, abf)."
        )
    return _yarn(asked, rope) if rope["rope_type"] == "yarn" else rope


def _misread(asked: Request, rope: Rope) -> str | None:
    """Why the engines would read the form otherwise than it is meant; None where they do not."""
    model_type, kind = asked.checkpoint.model_type, rope["rope_type"]
    if kind == "default":
        return None
    if kind == "longrope" and model_type in INTERLEAVED:
        return f"its longrope is for Neox-style heads, and {model_type} interleaves"
    if kind != "yarn" and "mrope_section" in plain(asked, kind):
        return f"its {kind} knows no mrope_section, which {model_type} has"
    if model_type in DEEPSEEK_YARN and (kind != "yarn" or not rope["truncate"] or rope["factor"] <= 1.0):
        return f"it reads every scaling of {model_type} as yarn with rounded bounds and a factor above 1"
    if model_type in SOFTMAX_MSCALE - DEEPSEEK_YARN:
        return f"what it makes of a scaling of {model_type} is not known"
    return None


def _yarn(asked: Request, rope: Rope) -> Rope:
    """A under both names: attention_factor is A, attn_factor multiplies 0.1 ln factor + 1. DeepSeek's yarn has neither,
    but A = mscale(mscale) / mscale(mscale_all_dim), and mscale(mscale_all_dim)^2 in the softmax scale, with
    mscale(m) = 0.1 m ln factor + 1."""
    factor, attention = rope["factor"], rope["attention_factor"]
    if asked.checkpoint.model_type not in DEEPSEEK_YARN:
        return rope | {"attn_factor": attention / temperature(factor)}
    scale, turn = softmax_mscale(asked), 0.1 * math.log(factor)
    return rope | {"mscale": (attention * scale - 1.0) / turn, "mscale_all_dim": (scale - 1.0) / turn}


def overrides(asked: Request, rope_parameters: Rope, largest_position: int) -> dict[str, Any]:
    """The keys to override in the text model's configuration."""
    config: dict[str, Any] = {"max_position_embeddings": largest_position, "rope_parameters": rope_parameters}
    if asked.checkpoint.original_beside:
        config[ORIGINAL] = original(asked)
    return config


def artefacts(order: Order) -> Made:
    """The line, and with gains the directory that it serves. Raises ExportError as `folded.artefacts`."""
    from ropewalk.export import folded  # it loads torch, and engines are also named in `ropewalk export --help`

    return folded.artefacts(order)
