"""A random model in Llama 3.2 1B's shape: weights do not matter for speed."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

CONFIG = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 2048,
}
"""Changes that make it run anywhere, to see that a script works."""


def model(device: str = "cuda", *, seed: int = 0, tiny: bool = False) -> LlamaForCausalLM:
    """The model in bfloat16 with random weights."""
    config = LlamaConfig(**(CONFIG | (TINY if tiny else {})))
    torch.manual_seed(seed)
    with torch.device(device):
        made = LlamaForCausalLM(config)
    rotary = made.model.rotary_emb
    made = made.to(torch.bfloat16).eval().requires_grad_(False)
    made.model.rotary_emb = type(rotary)(config).to(device)  # .to(bfloat16) rounded inv_freq
    return made
