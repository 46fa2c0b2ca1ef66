"""Tiny models with gains at run time, to hold folded ones against."""

from __future__ import annotations

from typing import Any

import numpy as np
import tiny_models
import torch
import transformers

from ropewalk.scoring import split
from ropewalk.tune.attention import gained, tunable
from ropewalk.tune.bench import factors
from ropewalk.tune.pairs import Turning, turning

SHARED = {"qwen3", "gemma3"}
"""Architectures with one norm for all heads of a query."""
NAMES = ("llama", "qwen2", "qwen3", "gemma3", "phi3", "gpt_neox", "olmo2", "cohere", "cohere_norm", "glm4")


def model_of(name: str) -> Any:
    if not name.startswith("cohere"):
        model = tiny_models.model_of(name)
        return with_norms(model)
    torch.manual_seed(0)
    config = transformers.CohereConfig(**tiny_models.SMALL, use_qk_norm=name == "cohere_norm")
    return with_norms(transformers.CohereForCausalLM(config).eval().requires_grad_(False))


def with_norms(model: Any) -> Any:
    """The model with norms of queries (and biases) that are not all one, so that what is stored shows."""
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if "q_norm" in name or name.endswith(("q_proj.bias", "query_key_value.bias")):
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    return model


def gains_of(name: str, turns: Turning) -> np.ndarray:
    """Random gains of the layers that turn, as fine as the architecture holds."""
    draw = np.random.default_rng(1)
    shape = (turns.depth, 1 if name in SHARED else turns.heads, int(turns.pairs.max()) + 1)
    gains = np.zeros((turns.depth, turns.heads, shape[2]), dtype=np.float32)
    gains[list(turns.layers)] = draw.normal(0, 0.3, shape).astype(np.float32)[list(turns.layers)]
    return gains


def turns_of(model: Any) -> Turning:
    return turning(model, split(model))


def at_run_time(model: Any, turns: Turning, gains: np.ndarray, ids: torch.Tensor) -> torch.Tensor:
    """Logits under gains that attention applies to the query after its rotation."""
    every = torch.from_numpy(np.stack([factors(each, turns.pairs) for each in gains]))
    with tunable(model), gained(every):
        return tiny_models.logits(model, ids)
