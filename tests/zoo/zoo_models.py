"""Every language model of the installed transformers that rotates, found by enumeration, as a tiny checkpoint."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

VOCABULARY, WINDOW, SLIDING = 96, 64, 24

_EQUAL: tuple[tuple[int, str], ...] = (
    (
        64,
        "hidden_size n_embd d_model n_inner intermediate_size ffn_dim backbone_hidden_size embed_dim out_hidden_size "
        "output_dim encoder_ffn_dim decoder_ffn_dim mm_hidden_size",
    ),
    (
        2,
        "num_hidden_layers n_layer n_layers num_layers depth encoder_layers decoder_layers encoder_attention_heads "
        "decoder_attention_heads num_experts_per_tok moe_topk moe_k num_key_value_heads "
        "swa_num_key_value_heads index_n_heads linear_num_key_heads n_groups mamba_n_groups num_codebooks hc_mult "
        "altup_num_inputs o_groups hc_count index_topk_blocks n_layers_per_attn_res_block top_k_experts",
    ),
    (
        4,
        "num_attention_heads n_head n_heads num_heads swa_num_attention_heads num_experts n_routed_experts "
        "num_local_experts moe_num_experts zero_expert_num linear_num_value_heads linear_num_heads mamba_n_heads "
        "mamba_num_heads n_mamba_heads",
    ),
    (1, "n_group topk_group first_k_dense_replace num_kv_shared_layers n_shared_experts max_window_layers"),
    (
        16,
        "head_dim swa_head_dim kv_channels linear_key_head_dim linear_value_head_dim linear_head_dim index_head_dim "
        "kv_lora_rank q_lora_rank mamba_d_state mamba_d_head mamba_head_dim ssm_state_size state_size "
        "hidden_size_per_layer_input laurel_rank o_lora_rank adapter_rank chunk_size mamba_chunk_size block_size "
        "gated_norm_rank router_hidden_size hc_lowrank index_block_size attention_head_size",
    ),
    (8, "rotary_dim qk_rope_head_dim qk_nope_head_dim v_head_dim index_topk"),
    (
        32,
        "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size global_head_dim "
        "shared_intermediate_size shared_experts_intermediate_size expert_ffn_hidden_size ffn_hidden_size "
        "intermediate_size_mlp dense_intermediate_size dim_model_base block_multiple_of query_pre_attn_scalar",
    ),
    (VOCABULARY, "vocab_size vocab_size_per_layer_input unpadded_vocab_size audio_vocab_size"),
    (WINDOW, "max_position_embeddings n_positions max_seq_len original_max_position_embeddings"),
    (SLIDING, "sliding_window attention_chunk_size local_attention sliding_window_size attention_window_size"),
    (0, "bos_token_id eos_token_id pad_token_id"),
)
SIZES: dict[str, Any] = {
    **{name: value for value, names in _EQUAL for name in names.split()},
    "initializer_range": 0.2,  # attention then looks at more than the last token, and rotations show
    "tie_word_embeddings": False,
}
"""What is small in every tiny checkpoint, by Hugging Face's names."""

_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16}
_SHARED = {
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
}
_BLT = {
    "hidden_size": 64,
    "hidden_size_global": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
}
_SWA = {"num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "head_dim": 16}


def _axes(*sections: int) -> dict[str, Any]:
    """Pairs of a head that turn with time, height and width of an image; on text all three are the position."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(sections)}}


SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {**_MAMBA, "attn_layer_indices": [1]},
    "blt": {
        **{
            f"{part}_config": {**_BLT, "num_attention_heads": 4} for part in ("patcher", "encoder", "decoder", "global")
        },
        "encoder_hash_byte_group_vocab": 32,
        "local_attention_window_len": SLIDING,
        "vocab_size": 260,
    },
    "codegen": {"n_positions": 2 * WINDOW},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {"rope_type": "default", "rope_theta": 100000.0},
        },
    },
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 32},
    },
    "chameleon_vqgan": {"codebook_size": 32, "base_channels": 32},
    "chameleon": {"vocabulary_map": {"<image>": 2}},
    "cosmos3_edge_text": _axes(4, 2, 2),
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"]},
    "dots3_note_text": {
        "num_key_value_heads": 4,
        "qk_rope_head_dim": 8,
        **{f"swa_{name}": value for name, value in {**_SWA, "qk_nope_head_dim": 8, "v_head_dim": 8}.items()},
    },
    "emu3_vqgan": {"codebook_size": 32, "base_channels": 32},
    "emu3": {"vocabulary_map": {"<image>": 2}},
    "ernie4_5_vl_moe_text": {"moe_intermediate_size": [32, 32], **_axes(3, 3, 2)},
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 128},
    "gemma3n_text": _SHARED,
    "gemma4_text": _SHARED,
    "gemma4_unified_text": _SHARED,
    "glm4v_text": _axes(4, 2, 2),
    "glm4v_moe_text": _axes(2, 1, 1),
    "glm_ocr_text": _axes(4, 2, 2),
    "granite4_vision": {"downsample_rate": "1/2", "deepstack_layer_map": [], "spatial_target_layers": []},
    "gptj": {"n_positions": 2 * WINDOW},
    "granitemoehybrid": {
        **_MAMBA,
        "layer_types": ["linear_attention", "full_attention"],
        "position_embedding_type": "rope",
    },
    "hrm_text": {"initializer_range": 0.05},
    "hunyuan_vl_text": _axes(2, 2, 2, 2),
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "longcat_flash": {"head_dim": 8},
    "mimo_v2_flash": {"head_dim": 24},
    "ministral3": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 2.0,
            "original_max_position_embeddings": WINDOW // 2,
            "llama_4_scaling_beta": 0.1,
        }
    },
    "molmo2_adapter": {"vision_feature_layer": [1, 0]},
    "muse_spark_audio": {"num_hidden_layers": 4},
    "paddleocr_vl_text": _axes(4, 2, 2),
    "qwen2_vl_text": _axes(4, 2, 2),
    "qwen2_5_vl_text": _axes(4, 2, 2),
    "qwen2_5_omni_text": _axes(4, 2, 2),
    "unlimited_ocr_text": {"num_key_value_heads": 4},
    "phi4_multimodal": {
        "vision_config": {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        "audio_config": {
            **dict.fromkeys(("hidden_size", "intermediate_size", "ext_pw_out_channel", "nemo_conv_channels"), 32),
            "depthwise_separable_out_channel": 32,
            "num_blocks": 1,
            "num_attention_heads": 2,
        },
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "roformer": {"is_decoder": True, "max_position_embeddings": 2 * WINDOW},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "use_mem_rope": True},
    "zaya": {"layer_types": ["hybrid_sliding", "hybrid"], "num_experts_per_tok": 1},
}
"""What else an architecture needs to be small or valid, by model_type."""


_DECODERS = ("ForCausalLM", "ForConditionalGeneration")
"""How classes are called that continue text from left to right (not by diffusion, and not from proteins)."""


def architectures() -> dict[str, str]:
    """Class -> model_type of every language model with a rotation that transformers loads: decoders of text first,
    then those that see images or hear as well."""
    found: dict[str, str] = {}
    for names in (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES):
        for name in names.values():
            kind = getattr(transformers, name).config_class
            if kind.model_type in names and name.endswith(_DECODERS) and _rotates(kind):
                found.setdefault(name, kind.model_type)
    return found


def _rotates(kind: Any) -> bool:
    """Whether a configuration, or that of its text model, has a key that only models with a rotation have."""
    text = _part(kind, "text_config") or kind
    return not {"rope_parameters", "rotary_dim", "rotary_value"}.isdisjoint(inspect.signature(text).parameters)


def _part(kind: Any, name: str) -> Any:
    """The configuration class of a part, such as text_config; None without that part."""
    part = getattr(kind, "sub_configs_defaults", {}).get(name)
    return getattr(part, "config_class", part)


def tiny_config(name: str) -> Any:
    """The configuration of a class with a few thousand weights; one layer of every kind that the default has."""
    kind = getattr(transformers, name).config_class
    config = kind(**tiny_values(kind))
    for rope in _ropes(getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}):
        if "original_max_position_embeddings" in rope:
            rope["original_max_position_embeddings"] = WINDOW // 2  # what ships then scales within the window
    return config


def _ropes(rope_parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of each kind of layers, or the only ones."""
    return [value for value in rope_parameters.values() if isinstance(value, dict)] or [rope_parameters]


def tiny_values(kind: Any) -> dict[str, Any]:
    """Arguments of a configuration class, and of those of its parts."""
    names = set(inspect.signature(kind).parameters)
    values = {name: value for name, value in SIZES.items() if name in names}
    default = _default(kind)
    if "kv_lora_rank" in names:
        values["num_key_value_heads"] = values.get("num_attention_heads")
    layers = sorted(set(getattr(default, "layer_types", None) or []), key=lambda name: (name == "full_attention", name))
    if layers and "layer_types" in names:
        values |= {"layer_types": layers * 2 if len(layers) == 1 else layers}
        values["num_hidden_layers"] = len(values["layer_types"])
    for name in getattr(default, "sub_configs", {}):
        part = getattr(default, name, None)
        if isinstance(part, transformers.PreTrainedConfig):
            values[name] = {**tiny_values(type(part)), "model_type": part.model_type}
    return values | SPECIAL.get(kind.model_type, {})


def _default(kind: Any) -> Any:
    """A configuration without arguments; None where that is not valid."""
    try:
        return kind()
    except ValueError:
        return None


def tiny_model(config: Any, name: str) -> Any:
    """A model in evaluation mode whose weights depend on the seed alone; those that start equal are spread."""
    torch.manual_seed(0)
    model = getattr(transformers, name)(config).float().eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
        elif not bool(parameter.std() > 0):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=draw))
    return model
