"""What vLLM and SGLang have in common: overrides of a configuration in Hugging Face's words."""

from __future__ import annotations

from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export.forms import Rope, named, plain, universal
from ropewalk.export.request import Request
from ropewalk.methods.none import shipped_varies

INTERLEAVED = frozenset(
    {"gptj", "cohere", "cohere2", "glm", "glm4", "chatglm", "deepseek_v2", "deepseek_v3", "llama4_text", "ernie4_5"}
)
"""Models that rotate neighbouring dimensions (GPT-J style), which the engines' longrope cannot."""


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


def served_form(asked: Request, engine: str, *, by_name: bool = True) -> Rope:
    """By name where the engine has the method and its tables reach the length, else longrope.

    Raises:
        ExportError: neither.
    """
    rope = named(asked) if by_name else None
    if rope is not None and rope["rope_type"] != "proportional" and reaches(asked, rope):
        return rope
    return checked_universal(asked, engine)


def checked_universal(asked: Request, engine: str) -> Rope:
    """The universal form. Raises ExportError where the engine's longrope does not fit the model."""
    model_type = asked.checkpoint.model_type
    reason = None
    if model_type in INTERLEAVED:
        reason = f"its longrope is for Neox-style heads, and {model_type} interleaves"
    elif "mrope_section" in plain(asked, "longrope"):
        reason = f"its longrope knows no mrope_section, which {model_type} has"
    if reason is not None:
        raise ExportError(
            f"{engine}: cannot run {asked.method} at {asked.length} tokens on this model, as {reason}; the nearest "
            "that can is --target hf, or a method that only changes rope_theta (ntk_aware, abf)."
        )
    return universal(asked)


def largest_position(asked: Request, rope: Rope) -> int:
    """max_position_embeddings: of linear the window, which the engines multiply by factor; else the served length.

    Gemma 3 is not multiplied, so it always gets the served length.
    """
    if rope["rope_type"] == "linear" and asked.geometry.layer_type is None:
        return asked.window
    return max(asked.length, asked.window)


def overrides(asked: Request, rope: Rope, rope_parameters: Rope) -> dict[str, Any]:
    """The keys to override in the text model's configuration."""
    config: dict[str, Any] = {
        "max_position_embeddings": largest_position(asked, rope),
        "rope_parameters": rope_parameters,
    }
    if asked.checkpoint.original_beside:
        config["original_max_position_embeddings"] = asked.window
    return config
