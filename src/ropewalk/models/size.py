"""How large a model is: its weights, and the widths that decide what a forward pass holds; no weights are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ropewalk.model_spec import ModelSpec
from ropewalk.models.auto import auto_classes, text_model
from ropewalk.models.foreign import quiet, sentences
from ropewalk.models.load import LoadedModel, read_config
from ropewalk.models.placement import torch_device, torch_dtype
from ropewalk.models.source import find

_INTERMEDIATE = ("intermediate_size", "ffn_hidden_size", "ffn_dim")
"""What configurations call the inner width of an MLP (Llama, Falcon, Moshi)."""
WIDER = 4
"""That width in hidden sizes, where a configuration does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Numbers per position unless said otherwise.

    Attributes:
        parameters: of the whole model.
        element_bytes: of a weight and of an activation.
        hidden: width of the hidden states.
        inner: all that an MLP holds at its worst moment, beside what goes in and comes out.
        head_dim: of one head.
        queries, keys: width of all query heads and of all key heads of one layer.
        vocabulary: width of the logits.
        layers: how many.
        sliding_window: of the layers that have one, tokens; None without such layers.
        device: "cpu" or "cuda".
    """

    parameters: int
    element_bytes: int
    hidden: int
    inner: int
    head_dim: int
    queries: int
    keys: int
    vocabulary: int
    layers: int
    sliding_window: int | None
    device: str


def read_size(spec: ModelSpec, dtype: str) -> ModelSize:
    """The size of a model from its configuration, in the dtype and on the device that `load` would choose.

    Raises:
        ModelError: the configuration cannot be had, or transformers makes no causal language model of it.
    """
    place = torch_device(None, spec.device_map)
    with quiet(), sentences(spec.id, spec.revision):
        source = find(spec, weights=False)
        config = read_config(source, spec)
        kind = torch_dtype(dtype, place, is_gguf=source.gguf is not None)
        with torch.device("meta"):
            model = auto_classes(spec.id, config)[0].from_config(config, trust_remote_code=spec.trust_remote_code)
    own = getattr(config, "dtype", None) or torch.float32
    return size_of(model, kind if isinstance(kind, torch.dtype) else own, place.type)


def size_of_loaded(loaded: LoadedModel) -> ModelSize:
    """The size of a model in memory."""
    return size_of(loaded.model, loaded.model.dtype, next(loaded.model.parameters()).device.type)


def size_of(model: Any, dtype: torch.dtype, device: str) -> ModelSize:
    """The size of a model whose weights may be on the meta device."""
    text = model.config.get_text_config(decoder=True)
    head_dim, queries, keys = _widest(text)
    return ModelSize(
        parameters=model.num_parameters(),
        element_bytes=dtype.itemsize,
        hidden=text.hidden_size,
        inner=_inner(model, text),
        head_dim=head_dim,
        queries=queries,
        keys=keys,
        vocabulary=text.vocab_size,
        layers=text.num_hidden_layers,
        sliding_window=_sliding_window(text),
        device=device,
    )


def _widest(text: Any) -> tuple[int, int, int]:
    """The largest head dimension, and widths of all query and all key heads, of any layer (Gemma 4's differ)."""
    layers = text.per_layer_config if getattr(text, "is_heterogeneous", False) else [text]
    found = []
    for layer in layers:
        heads: int = layer.num_attention_heads
        head_dim: int = getattr(layer, "head_dim", None) or layer.hidden_size // heads
        found.append((head_dim, heads * head_dim, (getattr(layer, "num_key_value_heads", None) or heads) * head_dim))
    head_dims, queries, keys = zip(*found, strict=True)
    return max(head_dims), max(queries), max(keys)


def _inner(model: Any, text: Any) -> int:
    """What the linear maps of an MLP give, the last one aside, and one more of the widest: gate, up and their product.

    Of experts, which are no linear modules, three of one expert's width.
    """
    layers = getattr(text_model(model), "layers", [])
    mlp = getattr(layers[0], "mlp", None) if len(layers) else None
    widths = [part.out_features for part in mlp.modules() if isinstance(part, nn.Linear)] if mlp is not None else []
    if len(widths) > 1:
        return sum(widths[:-1]) + max(widths[:-1])
    return 3 * _intermediate(text)


def _intermediate(text: Any) -> int:
    """The width of an MLP in the words of its configuration; the widest, where layers differ (Gemma 3n)."""
    for part in (text, getattr(text, "ffn_config", None)):  # DBRX keeps it one level down
        for name in _INTERMEDIATE:
            width = getattr(part, name, None)
            if width:
                return width if isinstance(width, int) else max(width)
    return WIDER * text.hidden_size


def _sliding_window(text: Any) -> int | None:
    window, kinds = getattr(text, "sliding_window", None), getattr(text, "layer_types", None)
    return window if kinds is None or "sliding_attention" in kinds else None
