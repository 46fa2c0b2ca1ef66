"""The faults of tests/diagnose/injected.py as what vLLM's --hf-overrides make of a healthy checkpoint."""

from __future__ import annotations

import math
from typing import Any

import injected
import torch

IMPOSSIBLE = {
    "shifted at": "it has no context shift",
    "context cut": "it answers 400 to a text beyond its context, and cuts only where a request says so",
    "BOS doubled": "it takes ids as they are, and adds nothing to them",
    "BOS missing": "it takes ids as they are, and drops nothing of them",
}
NUMBERS = ("factor missing", "applied twice", "attention factor squared", "stacked on shipped")
"""Which no key of a configuration gives: the lists of a longrope do."""


def impossible(served: injected.Served, name: str) -> str | None:
    """Why vLLM cannot be made to run a fault; None where it can."""
    return next((why for fault, why in IMPOSSIBLE.items() if name.startswith(fault)), None)


def overrides(served: injected.Served, name: str, model: Any) -> dict[str, Any]:
    """What makes vLLM run what a model of transformers with this fault does, written by hand."""
    if name.startswith("sliding window"):
        tokens = int(name.rsplit(" ", 1)[1])
        layers = ["sliding_attention"] * model.config.num_hidden_layers
        more = {"layer_types": layers, "sliding_window": tokens}
        return overrides(served, "as asked", injected._with(served, model, served.rope)) | more
    every = model.config.rope_parameters
    own = every["full_attention"] if served.layered else every
    kind = "full_attention_" if served.layered else ""
    rope = _lists(served, model, kind) if _by_numbers(served, name, own) else _with_mscale(own)
    most = served.length + 1
    if rope["rope_type"] == "linear" and not served.layered:  # its table is factor times as long
        most = math.ceil(most / rope["factor"])
    found = {"max_position_embeddings": most, "rope_parameters": rope}
    if served.layered:
        sliding = every["sliding_attention"]
        if sliding["rope_type"] != "default":
            sliding = _lists(served, model, "sliding_attention_")
        found["rope_parameters"] = {"sliding_attention": sliding, "full_attention": rope}
    beta = own.get("llama_4_scaling_beta")
    if beta:  # vLLM 0.32 reads it from here alone
        found["llama_4_scaling"] = {"beta": beta, "original_max_position_embeddings": 64}
    return found


def _by_numbers(served: injected.Served, name: str, rope: dict[str, Any]) -> bool:
    """No name says it, or vLLM's table of it, factor times its window, is too short."""
    short = rope["rope_type"] == "yarn" and 4 * rope["original_max_position_embeddings"] <= served.length
    return name in NUMBERS or short


def _lists(served: injected.Served, model: Any, before: str) -> dict[str, Any]:
    """A longrope of what the rotary module holds."""
    module = model.model.rotary_emb
    held = getattr(module, f"{before}inv_freq").double()
    theta = 10000.0 if before.startswith("sliding") else served.bare["rope_theta"]
    plain = theta ** -(torch.arange(len(held), dtype=torch.float64) / len(held))
    lists = (plain / held).tolist()
    rope = {"rope_type": "longrope", "rope_theta": theta, "short_factor": lists, "long_factor": lists}
    rope |= {"factor": 4.0, "original_max_position_embeddings": 64}
    return _with_mscale(rope | {"attention_factor": getattr(module, f"{before}attention_scaling")})


def _with_mscale(rope: dict[str, Any]) -> dict[str, Any]:
    """Where vLLM reads the attention factor of a longrope from."""
    if rope["rope_type"] != "longrope":
        return rope
    return rope | dict.fromkeys(("short_mscale", "long_mscale"), rope["attention_factor"])
