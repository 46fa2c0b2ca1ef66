"""Which class of transformers a configuration is loaded with, and which part of it is the text model."""

from __future__ import annotations

from typing import Any

import transformers
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING

from ropewalk.errors import ModelError


def auto_classes(name: str, config: Any) -> tuple[Any, ...]:
    """The classes to load with, in order: AutoModelForCausalLM, then, for configurations of images or sounds as well,
    the one that holds all of the model, whose names its weights may have (Emu3's do).

    Raises:
        ModelError: transformers has no language model for this configuration.
    """
    kind, found = type(config), list[Any]()
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        found.append(transformers.AutoModelForCausalLM)
    if kind in MODEL_FOR_MULTIMODAL_LM_MAPPING and _continues_text(MODEL_FOR_MULTIMODAL_LM_MAPPING[kind]):
        found.append(transformers.AutoModelForMultimodalLM)
    if not found:
        raise ModelError(
            f"model {name!r} is a {config.model_type}, of which transformers {transformers.__version__} has no "
            "language model that continues text alone; give a model that AutoModelForCausalLM loads."
        )
    return tuple(found)


def _continues_text(kind: Any) -> bool:
    """Whether a class is a decoder of tokens from left to right: block diffusion and IDEFICS, which needs an image,
    have other names."""
    return kind.__name__.endswith(("ForConditionalGeneration", "ForCausalLM"))


def text_model(model: Any) -> Any:
    """The part of a model that turns tokens into hidden states, without a tower for images."""
    decoder = model.get_decoder()
    if decoder is model:  # Llama 4's names no base
        return getattr(model, "model", model)
    return model.base_model if decoder is model.get_output_embeddings() else decoder  # so is ModernBERT's head called


def trunk(model: Any) -> Any:
    """The part of a model that is run to score text: all but what follows the last hidden state."""
    return text_model(model) if model.base_model is model else model.base_model


def before_head(model: Any) -> nn.Module:
    """What a model does between its last hidden state and its output embeddings: nothing, but in ModernBERT."""
    between = getattr(model, "lm_head", None)
    plain = between is model.get_output_embeddings() or not isinstance(between, nn.Module)
    return nn.Identity() if plain else between
