"""PEFT adapters: the model that remains must be a plain transformers model, with the adapter in its numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import huggingface_hub
import torch

from ropewalk.errors import ModelError

PROBE_TOKENS, PROBE_STRIDE = 16, 7919
"""Tokens on which an adapter is tried, and the distance between them: a vocabulary begins with special ones."""

_WEIGHTS = "adapter_model.safetensors"


def apply(model: Any, name: str, *, quantized: bool) -> tuple[Any, tuple[Path, ...]]:
    """The model with the adapter inside, and the adapter's weight files.

    Merged into the weights, except where these are quantised: there merging would round the sum anew, so the adapter
    stays a layer beside them.

    Raises:
        ModelError: peft is not installed, the adapter is no safetensors file, it works by prompts, or merging it
            changes what it does.
    """
    try:
        import peft
    except ImportError as error:
        raise ModelError(f"adapter {name!r} needs PEFT; run `pip install 'ropewalk[adapters]'`.") from error
    weights = _weights(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)  # `_merged` sees to it
        wrapped = peft.PeftModel.from_pretrained(model, str(weights.parent), is_trainable=False)
    kind = wrapped.active_peft_config
    if kind.is_prompt_learning:
        raise ModelError(
            f"adapter {name!r} ({type(kind).__name__}) prepends learned positions, which shifts every length; "
            "use an adapter that changes weights, such as LoRA."
        )
    if not quantized:
        return _merged(wrapped, name), (weights,)
    plain: Any = wrapped.get_base_model()
    if type(plain.get_output_embeddings()).__module__.startswith("peft."):
        raise ModelError(
            f"adapter {name!r} changes the output embedding of a quantised model, which chunked scoring would miss; "
            "load it without quantization."
        )
    return plain, (weights,)


@torch.inference_mode()
def _merged(wrapped: Any, name: str) -> Any:
    """The plain model with the adapter in its weights, proven on a few tokens."""
    weight = wrapped.get_input_embeddings().weight
    ids = torch.arange(PROBE_TOKENS, device=weight.device)[None] * PROBE_STRIDE % weight.shape[0]
    expected = wrapped.eval()(input_ids=ids, use_cache=False).logits.float()
    _give_head_its_own_weight(wrapped.get_base_model())
    model = wrapped.merge_and_unload(safe_merge=True)
    found = model.eval()(input_ids=ids, use_cache=False).logits.float()
    off = ((found - expected).norm() / expected.norm()).item()
    allowed = max(1e-4, 8 * torch.finfo(model.dtype).eps)
    if not off <= allowed:
        raise ModelError(
            f"adapter {name!r} changes logits by {off:.2g} of their size when it is merged into the weights (rounding: "
            f"{allowed:.2g}), so its numbers would be wrong; merge it with the tool that made it, and load the result."
        )
    return model


def _give_head_its_own_weight(model: Any) -> None:
    """Untie embeddings of which an adapter changes one: merged into the weight of both, it would change both."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    ends: tuple[Any, Any] = model.get_input_embeddings(), model.get_output_embeddings()
    inner, outer = (getattr(end, "base_layer", end) for end in ends)
    if any(isinstance(end, BaseTunerLayer) for end in ends) and outer.weight is inner.weight:
        outer.weight = torch.nn.Parameter(outer.weight.detach().clone(), requires_grad=False)
        for config in (model.config, model.config.get_text_config(decoder=True)):
            config.tie_word_embeddings = False


def _weights(name: str) -> Path:
    directory = Path(name).expanduser()
    if not directory.is_dir():
        if name.startswith(("/", ".", "~")) or name.count("/") != 1:
            raise ModelError(f"adapter {name!r} does not exist; give the directory that holds adapter_config.json.")
        directory = Path(huggingface_hub.snapshot_download(name, allow_patterns=["adapter_config.json", _WEIGHTS]))
    path = directory / _WEIGHTS
    if not path.is_file():
        raise ModelError(
            f"adapter {name!r} has no {_WEIGHTS}; save it again with safe_serialization=True (pickles are not read)."
        )
    return path
