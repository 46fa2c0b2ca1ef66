"""A transformers model and its tokenizer, as somebody holds them, as a model to measure."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from ropewalk.errors import ModelError
from ropewalk.models.as_shipped import check_shipped
from ropewalk.models.geometry import geometry_of
from ropewalk.models.load import LoadedModel, ModelProvenance, device_names
from ropewalk.models.patch import check_patchable
from ropewalk.models.spread import require_placed


@contextlib.contextmanager
def borrowed(model: Any, tokenizer: Any) -> Iterator[LoadedModel]:
    """The model, in evaluation mode and without a cache while it is measured, as it was afterwards.

    Raises:
        ModelError: there is no tokenizer, or it is no causal language model of transformers that can be patched.
    """
    if not hasattr(model, "config") or not isinstance(model, torch.nn.Module):
        raise ModelError(
            f"model: {type(model).__name__} is no name and no model of transformers; give a hub id, a directory, or "
            "what AutoModelForCausalLM.from_pretrained returned."
        )
    if tokenizer is None:
        raise ModelError(f"model: a {type(model).__name__} in memory needs its tokenizer; add tokenizer=...")
    config: Any = model.config
    text = config.get_text_config(decoder=True)
    training, cache = model.training, getattr(text, "use_cache", None)
    try:
        model.eval()
        text.use_cache = False
        geometry = geometry_of(config)
        require_placed(model, _name(model))
        check_patchable(model)
        check_shipped(model, geometry)
        yield LoadedModel(model=model, tokenizer=tokenizer, geometry=geometry, provenance=_provenance(model, tokenizer))
    finally:
        model.train(training)
        text.use_cache = cache


def _name(model: Any) -> str:
    return str(getattr(model.config, "_name_or_path", "") or type(model).__name__)


def _provenance(model: Any, tokenizer: Any) -> ModelProvenance:
    return ModelProvenance(
        id=_name(model),
        revision=None,
        architecture=type(model).__name__,
        weights_sha256=_weights_sha256(model),
        dtype=str(model.dtype).removeprefix("torch."),
        device=device_names(model),
        parameters=model.num_parameters(),
        chat_template=bool(getattr(tokenizer, "chat_template", None)),
    )


def _weights_sha256(model: Any) -> str:
    """Of names, shapes and bytes of all weights in memory, which are those of no file."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
