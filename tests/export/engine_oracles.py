"""What vLLM, SGLang and llama.cpp do with an exported configuration, as their sources were read; none runs here.

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


def ramp(base: float, d: int, window: int, fast: float, slow: float) -> np.ndarray:
    """Share of f that is kept; both bounds rounded, as all three engines do."""
    index = [d * math.log(window / (n * 2 * math.pi)) / (2 * math.log(base)) for n in (fast, slow)]
    low, high = max(math.floor(index[0]), 0), min(math.ceil(index[1]), d - 1)
    return 1 - np.clip((np.arange(d // 2) - low) / max(high - low, 0.001), 0, 1)


def served(rope: Mapping[str, Any], d: int, limit: int, temperature: float) -> Rotation:
    """vLLM's and SGLang's rotary classes; `temperature` multiplies yarn's own 0.1 ln s + 1."""
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
    kept = ramp(rope["rope_theta"], d, window, rope["beta_fast"], rope["beta_slow"])
    return Rotation(inv_freq=f / s * (1 - kept) + f * kept, attention_factor=temperature * (0.1 * math.log(s) + 1))


def reach(config: Mapping[str, Any], rope: Mapping[str, Any]) -> float:
    """How many positions the engine's tables hold, and how long a context it accepts."""
    if rope["rope_type"] == "linear":
        return config["max_position_embeddings"] * rope["factor"]
    if rope["rope_type"] == "yarn":
        return min(config["max_position_embeddings"], rope["original_max_position_embeddings"] * rope["factor"])
    return config["max_position_embeddings"]


def vllm(command: Sequence[str], shipped: Mapping[str, Any], d: int) -> tuple[Rotation, float]:
    """The dictionary replaces rope_parameters; yarn's temperature is the usual one, whatever attention_factor says."""
    config = shipped | json.loads(option(command, "--hf-overrides") or "{}")
    limit = int(option(command, "--max-model-len") or 0)
    rope = config["rope_parameters"]
    return served(rope, d, limit, 1.0), reach(config, rope)


def sglang(command: Sequence[str], shipped: Mapping[str, Any], d: int) -> tuple[Rotation, float]:
    """The dictionary is merged into rope_parameters; yarn reads attn_factor and ignores attention_factor."""
    config = json.loads(option(command, "--json-model-override-args") or "{}")
    rope = dict(shipped["rope_parameters"]) | config.get("rope_parameters", {})
    config = shipped | config
    limit = int(option(command, "--context-length") or 0)
    return served(rope, d, limit, rope.get("attn_factor", 1.0)), reach(config, rope)


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
