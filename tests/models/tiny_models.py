"""Random two-layer models of every architecture that is patched, and a tokenizer for them."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.utils import logging

VOCABULARY = 128
WINDOW = 256
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": WINDOW,
    "initializer_range": 0.2,  # attention then looks at more than the last token, and rotations show
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LAYERS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}

# architecture: (class stem, what differs from SMALL)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "mistral": ("Mistral", {"head_dim": 32}),
    "phi3": ("Phi3", {"partial_rotary_factor": 0.75, "original_max_position_embeddings": WINDOW}),
    "gemma2": ("Gemma2", {"head_dim": 32}),
    "gemma3": ("Gemma3", {"head_dim": 32, **LAYERS}),
    "gpt_neox": ("GPTNeoX", {"rotary_pct": 0.5}),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", {**LAYERS}),
    "glm4": ("Glm4", {"head_dim": 32}),
    "smollm3": ("SmolLM3", {}),
    "gemma4": ("Gemma4", {"head_dim": 16, "global_head_dim": 32, **LAYERS}),
    "qwen3_5": ("Qwen3_5", {"head_dim": 32, "layer_types": ["linear_attention", "full_attention"]}),
}


def config_of(architecture: str, **changes: Any) -> Any:
    stem, differences = ARCHITECTURES[architecture]
    kind = getattr(transformers, f"{stem}{'Text' if stem in ('Gemma3', 'Gemma4', 'Qwen3_5') else ''}Config")
    return kind(**{**SMALL, **copy.deepcopy(differences), **changes})


@functools.cache
def _weights(architecture: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return _class_of(architecture)(config_of(architecture)).state_dict()


def _class_of(architecture: str) -> Any:
    return getattr(transformers, f"{ARCHITECTURES[architecture][0]}ForCausalLM")


def model_of(architecture: str, **changes: Any) -> Any:
    """A fresh model; the same weights whatever the changes, as rotations have none."""
    model = _class_of(architecture)(config_of(architecture, **changes))
    model.load_state_dict(_weights(architecture))
    return model.eval().requires_grad_(False)


def tokens(rows: int = 1, length: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def tokenizer() -> Any:
    """One token per printable character."""
    characters = {chr(32 + i): i for i in range(VOCABULARY - 32)}
    backend = Tokenizer(models.WordLevel(characters | {"<unk>": VOCABULARY - 32}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def silence() -> None:
    """Tiny configurations make transformers talk about token ids out of range."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
