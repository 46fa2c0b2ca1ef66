"""The faults of tests/diagnose/injected.py as GGUF files for llama.cpp, written by hand: metadata where it has a name
for the rotation, else divisors of frequencies and rope.scaling.attn_factor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf_models
import injected
import torch
from vllm_faults import NUMBERS

IMPOSSIBLE = {
    "sliding window": "no key switches one on for Llama, and Phi 3's are switched off in it",
    "shifted at": "its server refuses a text beyond its context",
    "context cut": "its server refuses a text beyond its context",
    "BOS missing": "a BOS that the text begins with is one of its tokens",
}
OF_LAYERS = {
    "layers": "no key gives sliding layers another scaling than none",
    "attention factor": "attn_factor goes to sliding layers too",
    **dict.fromkeys(("factor missing", "applied twice"), "it reads no divisors of frequencies for Gemma 3"),
}
"""In models with sliding layers."""

PLAIN = {"attention_factor", "beta_slow", "truncate"}
"""What its yarn has no key for, or one of another meaning."""


def impossible(served: injected.Served, name: str) -> str | None:
    """Why llama.cpp cannot be made to run a fault; None where it can."""
    known = IMPOSSIBLE | (OF_LAYERS if served.layered else {})
    return next((why for fault, why in known.items() if fault in name), None)


def write(path: Path, served: injected.Served, name: str, model: Any, words: Path) -> Path:
    """A file of the model of transformers with this fault; `words` is its tokenizer.json."""
    every = model.config.rope_parameters
    rope = every["full_attention"] if served.layered else every
    model.config.max_position_embeddings = served.length + 1
    named = rope["rope_type"] in ("default", "linear", "yarn") and not PLAIN & set(rope) and name not in NUMBERS
    metadata, lambdas = (_named(rope), None) if named else _numbers(rope, model)
    return gguf_models.write(
        path, model, tokenizer_json=words, lambdas=lambdas, metadata=metadata, bos_added=name == "BOS doubled"
    )


def _named(rope: dict[str, Any]) -> dict[str, Any]:
    kind = rope["rope_type"].replace("default", "none")
    keys = {"factor": "factor", "original_max_position_embeddings": "original_context_length"}
    return {"rope.scaling.type": kind} | {f"rope.scaling.{keys[key]}": rope[key] for key in keys if key in rope}


def _numbers(rope: dict[str, Any], model: Any) -> tuple[dict[str, Any], Any]:
    """The factor, and by what the frequencies of `rope_theta` are divided."""
    module = model.model.rotary_emb
    held = module.inv_freq.double()
    plain = rope["rope_theta"] ** -(torch.arange(len(held), dtype=torch.float64) / len(held))
    lists, factor = (plain / held).numpy(), module.attention_scaling
    if rope["rope_type"] == "longrope":  # its module switches lists by itself
        lists, factor = rope["long_factor"], rope["attention_factor"]
    return {"rope.scaling.type": "none", "rope.scaling.attn_factor": float(factor)}, lists
