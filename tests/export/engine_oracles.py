"""What vLLM, SGLang and llama.cpp do with an exported configuration, from their sources; none runs here.

vLLM 0.33, SGLang 0.5.23, llama.cpp of October 2026. Written apart from src, from the engines' side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ropewalk.rope import Rotation


def frequencies(rope_theta: float, d: int) -> np.ndarray:
    return rope_theta ** (-np.arange(0, d, 2) / d)


def option(command: Sequence[str], name: str) -> str | None:
    return command[list(command).index(name) + 1] if name in command else None


def ramp(base: float, d: int, window: int, fast: float, slow: float, truncate: bool = True) -> np.ndarray:
    """Share of f that is kept; without truncate its bounds are not rounded."""
    low, high = (d * math.log(window / (n * 2 * math.pi)) / (2 * math.log(base)) for n in (fast, slow))
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    return 1 - np.clip((np.arange(d // 2) - low) / ((high - low) or 0.001), 0, 1)


def mscale(s: float, m: float = 1.0) -> float:
    return 0.1 * m * math.log(s) + 1.0 if s > 1 else 1.0


def served(rope: Mapping[str, Any], d: int, limit: int, temperature: float) -> Rotation:
    """vLLM's and SGLang's rotary classes; `temperature` is yarn's A."""
    f = frequencies(rope["rope_theta"], d)
    kind = rope["rope_type"]
    if kind == "default":
        return Rotation(inv_freq=f)
    if kind == "longrope":
        beyond = limit > rope["original_max_position_embeddings"]
        divisors = np.array(rope["long_factor" if beyond else "short_factor"])
        return Rotation(inv_freq=f / divisors, attention_factor=rope["long_mscale" if beyond else "short_mscale"])
    s = rope["factor"]
    assert isinstance(s, float)
    if kind == "linear":
        return Rotation(inv_freq=f / s)
    window = rope["original_max_position_embeddings"]
    if kind == "llama3":
        turns = window * f / (2 * math.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        return Rotation(inv_freq=(1 - smooth) * f / s + smooth * f)
    assert kind == "yarn", kind
    kept = ramp(rope["rope_theta"], d, window, rope["beta_fast"], rope["beta_slow"], rope.get("truncate", True))
    kept *= rope.get("extrapolation_factor", 1.0)
    return Rotation(inv_freq=f / s * (1 - kept) + f * kept, attention_factor=temperature)


def vllm_yarn(rope: Mapping[str, Any]) -> float:
    """A as vLLM 0.32 and 0.33 read it."""
    s, stated = rope.get("factor", 1.0), rope.get("attention_factor")
    if stated is not None:
        return stated
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return mscale(s, rope["mscale"]) / mscale(s, rope["mscale_all_dim"])
    return mscale(s)


def vllm_yarn_before(rope: Mapping[str, Any]) -> float:
    """A as earlier versions of vLLM read it."""
    return mscale(rope.get("factor", 1.0)) * rope.get("attn_factor", 1.0)


def sglang_yarn(rope: Mapping[str, Any]) -> float:
    """A as SGLang reads it; a key that is null counts as absent."""
    s, two = rope.get("factor", 1.0), (rope.get("mscale"), rope.get("mscale_all_dim"))
    own = mscale(s) if None in two else mscale(s, two[0]) / mscale(s, two[1])
    return own * rope.get("attn_factor", 1.0)


def deepseek_yarn(rope: Mapping[str, Any]) -> tuple[float, float]:
    """A and the multiplier of the softmax scale, as both engines read them for DeepSeek's models."""
    s, all_dim = rope["factor"], rope.get("mscale_all_dim", 0.0)
    own = mscale(s, rope.get("mscale", 1.0)) / mscale(s, all_dim)
    return own * rope.get("attn_factor", 1.0), mscale(s, all_dim) ** 2


def reach(config: Mapping[str, Any], rope: Mapping[str, Any]) -> float:
    """How many positions the engine's tables hold."""
    if rope["rope_type"] == "linear":
        return config["max_position_embeddings"] * rope["factor"]
    if rope["rope_type"] == "yarn":
        return min(config["max_position_embeddings"], rope["original_max_position_embeddings"] * rope["factor"])
    return config["max_position_embeddings"]


def vllm(command: Sequence[str], shipped: Mapping[str, Any], d: int) -> tuple[Rotation, float]:
    """The dictionary replaces rope_parameters."""
    config = shipped | json.loads(option(command, "--hf-overrides") or "{}")
    limit = int(option(command, "--max-model-len") or 0)
    rope = config["rope_parameters"]
    return served(rope, d, limit, vllm_yarn(rope)), reach(config, rope)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Key by key, at every depth: what the new one does not name survives."""
    both = {key: merged(old[key], new[key]) for key in new if isinstance(old.get(key), dict)}
    return {**old, **new, **both}


def sglang(command: Sequence[str], shipped: Mapping[str, Any], d: int) -> tuple[Rotation, float]:
    """The dictionary is merged into the configuration; the context that it accepts counts a factor only where there is
    no original_max_position_embeddings."""
    config = merged(shipped, json.loads(option(command, "--json-model-override-args") or "{}"))
    rope = config["rope_parameters"]
    limit = int(option(command, "--context-length") or 0)
    counts = "original_max_position_embeddings" not in rope and rope["rope_type"] != "llama3"
    context = config["max_position_embeddings"] * (rope.get("factor", 1.0) if counts else 1.0)
    return served(rope, d, limit, sglang_yarn(rope)), min(context, reach(config, rope))


def llama_cpp(command: Sequence[str], rope_theta: float, freq_factors: np.ndarray) -> Rotation:
    """theta_i = base^(-2i/d) / rope_freqs_i, whatever the flags; yarn blends theta with theta/s and sharpens."""
    d = 2 * freq_factors.size
    base = float(option(command, "--rope-freq-base") or rope_theta)
    theta = frequencies(base, d) / freq_factors
    s = float(option(command, "--rope-scale") or 1)
    kind = option(command, "--rope-scaling") or "none"
    if kind != "yarn":
        return Rotation(inv_freq=theta / (s if kind == "linear" else 1.0))
    fast, slow = (float(option(command, f"--yarn-beta-{name}") or "nan") for name in ("fast", "slow"))
    kept = ramp(base, d, int(option(command, "--yarn-orig-ctx") or 0), fast, slow)
    asked = [word.split(":")[1] for word in command if "attn_factor=float:" in word]
    sharpened = (float(asked[0]) if asked else 1.0) * (1 + 0.1 * math.log(s))
    return Rotation(inv_freq=theta / s * (1 - kept) + theta * kept, attention_factor=sharpened)


def llama_cpp_context(command: Sequence[str], trained: int) -> int:
    """The context that is served: --ctx-size, capped by the file's context_length."""
    raised = [int(word.rsplit(":", 1)[1]) for word in command if ".context_length=int:" in word]
    return min(int(option(command, "--ctx-size") or 0), *(raised or [trained]))
