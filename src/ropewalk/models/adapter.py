"""PEFT adapters: the model that remains must be a plain transformers model, with the adapter in its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub

from ropewalk.errors import ModelError

_WEIGHTS = "adapter_model.safetensors"


def apply(model: Any, name: str, *, quantized: bool) -> tuple[Any, tuple[Path, ...]]:
    """The model with the adapter inside, and the adapter's weight files.

    Merged into the weights, except where these are quantised: there merging would round the sum anew, so the adapter
    stays a layer beside them.

    Raises:
        ModelError: peft is not installed, the adapter is no safetensors file, or it works by prompts.
    """
    try:
        import peft
    except ImportError as error:
        raise ModelError(f"adapter {name!r} needs PEFT; run `pip install 'ropewalk[adapters]'`.") from error
    weights = _weights(name)
    wrapped = peft.PeftModel.from_pretrained(model, str(weights.parent), is_trainable=False)
    kind = wrapped.active_peft_config
    if kind.is_prompt_learning:
        raise ModelError(
            f"adapter {name!r} ({type(kind).__name__}) prepends learned positions, which shifts every length; "
            "use an adapter that changes weights, such as LoRA."
        )
    if not quantized:
        return wrapped.merge_and_unload(safe_merge=True), (weights,)
    plain: Any = wrapped.get_base_model()
    if type(plain.get_output_embeddings()).__module__.startswith("peft."):
        raise ModelError(
            f"adapter {name!r} changes the output embedding of a quantised model, which chunked scoring would miss; "
            "load it without quantization."
        )
    return plain, (weights,)


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
