"""Read what a checkpoint was trained with out of its transformers configuration."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ropewalk.errors import ModelError, short
from ropewalk.models.layers import scaled_layer_type, why_not
from ropewalk.rope import RopeGeometry

_ORIGINAL = "original_max_position_embeddings"


def geometry_of(config: Any) -> RopeGeometry:
    """The RoPE geometry of a transformers configuration, as its rotary module reads it.

    That module standardises `config.rope_parameters` once more before it reads them: keys beside them that the class
    does not declare (Llama's original_max_position_embeddings) have become attributes by then, and win.

    An original_max_position_embeddings equal to max_position_embeddings counts as absent: transformers fills it in so
    where a checkpoint has none, and the window is the same number.

    Args:
        config: a `PreTrainedConfig`; of a multimodal model the text part counts.

    Raises:
        ModelError: the configuration has no rotary position embeddings, or contradicts itself.
    """
    text = config.get_text_config(decoder=True)
    name = type(config).__name__
    if getattr(config, "model_type", None) == "ropewalk":
        raise ModelError(
            "this model was exported with code that changes its attention, beside which nothing else can be measured; "
            "measure the model that it was made of, under the same method."
        )
    parameters = getattr(text, "rope_parameters", None)
    if not parameters or getattr(text, "alibi", False):
        raise ModelError(
            f"{name} ({text.model_type}) {why_not(text)}; "
            "choose a RoPE model such as Llama, Qwen, Mistral, Phi, Gemma or OLMo."
        )
    if hasattr(text, "standardize_rope_params"):
        text = copy.deepcopy(text)
        text.standardize_rope_params()
        parameters = text.rope_parameters
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
    if not _number(theta):
        raise ModelError(f"{name} has rope_theta={short(theta)}, which is no number; write one in config.json.")
    original = _original_window(text, rope, layer_type)
    for key, number in (("max_position_embeddings", window), (_ORIGINAL, original)):
        if number is not None and (not _number(number) or number % 1):
            raise ModelError(
                f"{name} has {key}={short(number)}, which is no number of tokens; write one in config.json."
            )
    stated = None if original is None or original == window else int(original)
    return RopeGeometry(
        rotary_dim=_rotary_dim(text, rope, layer_type),
        rope_theta=float(theta),
        max_position_embeddings=int(window),
        original_max_position_embeddings=stated,
        rope_parameters=_own_type(text, {k: v for k, v in rope.items() if v is not None and k != "type"}),
        layer_type=layer_type,
        softmax_mscale=hasattr(text, "qk_rope_head_dim") and hasattr(_modeling(text), "yarn_get_mscale"),
    )


def _number(value: object) -> bool:
    """Whether it is a number that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _original_window(text: Any, rope: Mapping[str, Any], layer_type: str | None) -> int | None:
    """The trained window before the shipped scaling, tokens: what a scaling uses, or would use.

    Beside `rope_parameters` it counts unless they are kept per layer type. Phi-3 has it there as a class default too,
    which only means something where a scaling uses it, and then it is among `rope_parameters`.
    """
    outside = None if layer_type or hasattr(type(text), _ORIGINAL) else getattr(text, _ORIGINAL, None)
    return outside or rope.get(_ORIGINAL)


def _own_type(text: Any, rope: dict[str, Any]) -> dict[str, Any]:
    """HunYuan's checkpoints call `dynamic` what its rotary module names `ntk_alpha`: one base, larger by `alpha`."""
    if rope.get("rope_type") != "dynamic" or not rope.get("alpha"):
        return rope
    reads = any(hasattr(kind, "compute_ntk_alpha_rope_parameters") for kind in vars(_modeling(text)).values())
    return rope | {"rope_type": "ntk_alpha"} if reads else rope


def _modeling(text: Any) -> ModuleType:
    """The file with the architecture of a configuration: what it reads shows in the functions that it has."""
    name = type(text).__module__.replace("configuration_", "modeling_")
    return importlib.import_module(name if importlib.util.find_spec(name) else type(text).__module__)


def _rotary_dim(text: Any, rope: Mapping[str, Any], layer_type: str | None) -> int:
    """Gemma 4 gives each kind of layers a head_dim of its own, and rotates whole heads, partly at frequency 0."""
    layers = text.per_layer_config[layer_type] if layer_type and getattr(text, "is_heterogeneous", False) else text
    head_dim = getattr(layers, "head_dim", None) or text.hidden_size // text.num_attention_heads
    partial = rope.get("partial_rotary_factor") or 1.0
    for key, number in (("head_dim", head_dim), ("partial_rotary_factor", partial)):
        if not _number(number) or not _number(head_dim * number):
            raise ModelError(f"{key}={short(number)} in its configuration cannot be; mend its config.json.")
    return int(head_dim) if rope.get("rope_type") == "proportional" else int(head_dim * partial)
