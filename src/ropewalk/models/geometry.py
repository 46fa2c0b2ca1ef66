"""Read what a checkpoint was trained with out of its transformers configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.errors import ModelError
from ropewalk.models.layers import scaled_layer_type, why_not
from ropewalk.rope import RopeGeometry

# Types for which transformers fills a missing original_max_position_embeddings with max_position_embeddings.
_FILLED_TYPES = frozenset({"llama3", "yarn", "longrope"})


def geometry_of(config: Any) -> RopeGeometry:
    """The RoPE geometry of a transformers configuration (5.x: everything sits in `config.rope_parameters`).

    An original_max_position_embeddings equal to max_position_embeddings counts as absent: transformers fills it in so
    where a checkpoint has none, and the window is the same number.

    Args:
        config: a `PreTrainedConfig`; of a multimodal model the text part counts.

    Raises:
        ModelError: the configuration has no rotary position embeddings, or contradicts itself.
    """
    text = config.get_text_config(decoder=True)
    name = type(config).__name__
    parameters = getattr(text, "rope_parameters", None)
    if not parameters or getattr(text, "alibi", False):
        raise ModelError(
            f"{name} ({text.model_type}) {why_not(text)}; "
            "choose a RoPE model such as Llama, Qwen, Mistral, Phi, Gemma or OLMo."
        )
    if not hasattr(text, "hidden_size") and not hasattr(text, "head_dim"):
        raise ModelError(
            f"{name} ({text.model_type}) joins several transformers, each with a rotation of its own, and ropewalk "
            "scales one; choose a model that is one decoder."
        )
    layer_type = scaled_layer_type(name, parameters)
    rope = dict(parameters[layer_type] if layer_type else parameters)
    window = getattr(text, "max_position_embeddings", None)
    theta = rope.get("rope_theta")
    if theta is None or window is None:
        missing = "rope_theta" if theta is None else "max_position_embeddings"
        raise ModelError(f"{name} has {missing}=None; add the number that the model was trained with to config.json.")
    original = _original_window(text, rope)
    stated = None if original is None or original == window else int(original)
    return RopeGeometry(
        rotary_dim=_rotary_dim(text, rope, layer_type),
        rope_theta=float(theta),
        max_position_embeddings=int(window),
        original_max_position_embeddings=stated,
        rope_parameters={key: value for key, value in rope.items() if value is not None and key != "type"},
        layer_type=layer_type,
    )


def _original_window(text: Any, rope: Mapping[str, Any]) -> int | None:
    """The trained window before the shipped scaling, tokens. Phi-3 keeps it beside `rope_parameters`, and as a
    class default that is only meaningful where a scaling uses it."""
    if rope.get("rope_type") in _FILLED_TYPES:
        return rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
    return rope.get("original_max_position_embeddings")


def _rotary_dim(text: Any, rope: Mapping[str, Any], layer_type: str | None) -> int:
    """Gemma 4 gives each kind of layers a head_dim of its own, and rotates whole heads, partly at frequency 0."""
    layers = text.per_layer_config[layer_type] if layer_type and getattr(text, "is_heterogeneous", False) else text
    head_dim = getattr(layers, "head_dim", None) or text.hidden_size // text.num_attention_heads
    whole = rope.get("rope_type") == "proportional"
    return head_dim if whole else int(head_dim * (rope.get("partial_rotary_factor") or 1.0))
