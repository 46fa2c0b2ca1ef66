"""Which layers of a model see the whole context, where it rotates several kinds of layers differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.errors import ModelError

_WINDOWED = ("sliding", "chunked", "local", "main")
"""What the names of layers say that see a window only; `main` is DeepSeek V4's for those without compressed keys."""


def scaled_layer_type(name: str, parameters: Mapping[str, Any]) -> str | None:
    """The key of `rope_parameters` whose layers see the whole context; None where all layers rotate alike.

    Methods change these layers alone: the others (Gemma 3, OLMo 3, ...) never look beyond their window.

    Args:
        name: of the configuration class.
        parameters: `rope_parameters`, per layer type or flat.

    Raises:
        ModelError: no rotated layer sees the whole context, or several kinds do.
    """
    kinds = sorted(key for key, value in parameters.items() if isinstance(value, Mapping))
    if not kinds:
        return None
    whole = [kind for kind in kinds if not any(word in kind for word in _WINDOWED)]
    if not whole:
        raise ModelError(
            f"{name} rotates only layers that see a sliding window ({', '.join(kinds)}); those that see the whole "
            "context have no positions, so there is no rotation to scale: measure a model whose global layers rotate."
        )
    if len(whole) > 1:
        raise ModelError(
            f"{name} rotates several kinds of layers that see the whole context, each in its own way "
            f"({', '.join(whole)}), and ropewalk scales one; measure a model that has one."
        )
    return whole[0]


def why_not(text: Any) -> str:
    """Why a configuration without `rope_parameters` has no rotation that could be scaled."""
    if getattr(text, "rotary_dim", None) or hasattr(text, "rotary_value"):
        return (
            "rotates by fixed tables of sines and cosines, for which neither transformers nor an engine reads a "
            "scaling, so nothing that could be measured could be served"
        )
    return "has no rotary position embeddings, so there is no rotation to scale"
