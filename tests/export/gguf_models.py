"""Small models as GGUF files, written as llama.cpp's convert_hf_to_gguf.py does; float32 weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "gpt_neox": gguf.MODEL_ARCH.GPTNEOX,
}


def write(
    path: Path,
    model: Any,
    *,
    tokenizer_json: Path | None = None,
    lambdas: Any = None,
    metadata: Mapping[str, str | int | float] | None = None,
    bos_added: bool = False,
) -> Path:
    """`lambdas` float `[rotary_dim/2]` become rope_freqs.weight, as in Llama 3's files, or both lists of a longrope;
    `metadata` are keys below the architecture; `bos_added` puts a BOS before all text."""
    config = model.config
    architecture = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(str(path), gguf.MODEL_ARCH_NAMES[architecture])
    _shape(writer, config)
    for key, value in (metadata or {}).items():
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)]
        add(f"{gguf.MODEL_ARCH_NAMES[architecture]}.{key}", value)
    _vocabulary(writer, config, tokenizer_json)
    writer.add_add_bos_token(bos_added)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ValueError(name)
        writer.add_tensor(found, laid_out(name, tensor.float().numpy(), config))
    if lambdas is not None:
        lists = ("rope_factors_long.weight", "rope_factors_short.weight")
        for name in lists if config.model_type == "phi3" else ("rope_freqs.weight",):
            writer.add_tensor(name, np.asarray(lambdas, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shape(writer: gguf.GGUFWriter, config: Any) -> None:
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads if config.model_type == "gpt_neox" else config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(int(head_dim * (rope.get("partial_rotary_factor") or 1)))
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gpt_neox":
        writer.add_layer_norm_eps(config.layer_norm_eps)
        writer.add_parallel_residual(config.use_parallel_residual)
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if config.model_type == "gemma3_text":
        writer.add_sliding_window(config.sliding_window)
        writer.add_array("gemma3.attention.sliding_window_pattern", [t != "full_attention" for t in config.layer_types])


def _vocabulary(writer: gguf.GGUFWriter, config: Any, tokenizer_json: Path | None) -> None:
    words, merges = ["Ġ", "ĠĠ", *(f"w{i}" for i in range(config.vocab_size - 2))], ["Ġ Ġ"]
    if tokenizer_json is not None:
        raw = json.loads(tokenizer_json.read_text(encoding="utf-8"))["model"]
        words = sorted(raw["vocab"], key=raw["vocab"].__getitem__)
        merges = [m if isinstance(m, str) else " ".join(m) for m in raw["merges"]]
        words += [f"<unused{i}>" for i in range(config.vocab_size - len(words))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(words) - 1))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def laid_out(name: str, weight: np.ndarray, config: Any) -> np.ndarray:
    """A tensor's rows as the converter orders them."""
    kind, heads = config.model_type, config.num_attention_heads
    if kind == "llama" and ("q_proj" in name or "k_proj" in name):  # llama.cpp rotates neighbours there
        rows = heads if "q_proj" in name else config.num_key_value_heads
        halves = weight.reshape(rows, 2, weight.shape[0] // rows // 2, -1)
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
    if kind == "gpt_neox" and "query_key_value" in name:
        parts = weight.reshape(heads, 3, config.hidden_size // heads, -1)
        return np.ascontiguousarray(parts.swapaxes(0, 1).reshape(weight.shape))
    if kind == "gemma3_text" and name.endswith("norm.weight"):
        return weight + 1
    return weight
