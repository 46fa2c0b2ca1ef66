"""Random two-layer models as checkpoints ship them: what stands in rope_parameters beside a rotation, and scalings."""

from __future__ import annotations

import functools
from typing import Any

import tiny_models
import torch
import transformers

WINDOW = tiny_models.WINDOW
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LISTS = {"short_factor": [1.0] * 6, "long_factor": [1.0, 1.2, 1.5, 2.0, 3.0, 4.0]}
MSCALES = {"mscale": 1.0, "mscale_all_dim": 0.5}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LAYERED = tiny_models.LAYERS

# name: (model_type, what differs from tiny_models.SMALL)
SHIPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama shipping llama3": ("llama", {"rope_parameters": LLAMA_3}),
    "llama shipping yarn": ("llama", {"rope_parameters": YARN | MSCALES | {"truncate": False}}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "mistral": ("mistral", {"head_dim": 32}),
    "phi3": ("phi3", {"partial_rotary_factor": 0.75, "original_max_position_embeddings": WINDOW}),
    "phi3 shipping longrope": (
        "phi3",
        {
            "original_max_position_embeddings": 64,
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75, **LISTS},
        },
    ),
    "gemma2": ("gemma2", {"head_dim": 32}),
    "gemma3_text": ("gemma3_text", {"head_dim": 32, **LAYERED}),
    "gpt_neox": ("gpt_neox", {"rotary_pct": 0.5}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", {**LAYERED}),
    "granite": ("granite", {"attention_multiplier": 0.3, "embedding_multiplier": 2.0}),
    "glm4": ("glm4", {"head_dim": 32}),
    "smollm3": ("smollm3", {}),
    "cohere": ("cohere", {}),
    "cohere2": ("cohere2", {"head_dim": 16, **LAYERED}),
    "gpt_oss": ("gpt_oss", {"head_dim": 16, **LAYERED, **EXPERTS, "rope_parameters": YARN | {"truncate": False}}),
    "qwen3_5_text": ("qwen3_5_text", {"head_dim": 32, "layer_types": ["linear_attention", "full_attention"]}),
    "ministral3": ("ministral3", {"head_dim": 16, "rope_parameters": YARN | {"llama_4_scaling_beta": 0.5}}),
    "mistral4": ("mistral4", {**LATENT, "rope_parameters": YARN | MSCALES | {"llama_4_scaling_beta": 0.5}}),
    "deepseek_v3": ("deepseek_v3", {**LATENT}),
    "deepseek_v3 shipping yarn": ("deepseek_v3", {**LATENT, "rope_parameters": YARN | MSCALES}),
    "deepseek_v2": ("deepseek_v2", {**LATENT, "topk_method": "greedy"}),
}


def config_of(name: str, **changes: Any) -> Any:
    model_type, differences = SHIPPED[name]
    return transformers.AutoConfig.for_model(model_type, **{**tiny_models.SMALL, **differences, **changes})


def class_of(config: Any) -> Any:
    """transformers has no automatic class for Mistral 4 alone, as it comes inside a model of images."""
    known = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    return known.get(type(config), transformers.Mistral4ForCausalLM)


@functools.cache
def weights(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    config = config_of(name)
    return class_of(config)(config).state_dict()


def model_of(name: str, config: Any) -> Any:
    """With the weights of the shipped one, whatever its configuration says of rotations."""
    config._attn_implementation = "eager"
    model = class_of(config)(config)
    model.load_state_dict(weights(name))
    return model.eval().requires_grad_(False)
