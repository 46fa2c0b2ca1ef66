"""Tiny models with gains at run time, to hold folded ones against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tiny_models
import torch
import transformers

from ropewalk.export.folding import Folding
from ropewalk.methods.none import shipped
from ropewalk.models import patched
from ropewalk.models.geometry import geometry_of
from ropewalk.models.query import Place, folded
from ropewalk.scheme import Gains, Scheme
from ropewalk.tuning.pairs import Turning, turning

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
    return turning(model)


def at_run_time(model: Any, turns: Turning, gains: np.ndarray, ids: torch.Tensor) -> torch.Tensor:
    """Logits under gains that attention applies to the query after its rotation."""
    rotation = shipped(geometry_of(model.config), ids.shape[1])
    with patched(model, Scheme(rotation=rotation, gains=Gains(log=gains))):
        return tiny_models.logits(model, ids)


@contextmanager
def held(model: Any, places: dict[int, tuple[Place, ...]], turns: Turning, gains: np.ndarray) -> Iterator[None]:
    """The gains in the model's own weights inside the block."""
    weights, folding = dict(model.named_parameters()), Folding(gains=gains, pairs=turns.pairs)
    own = [(place, torch.from_numpy(folding.factors(layer))) for layer in turns.layers for place in places[layer]]
    before = {place.name: weights[place.name].clone() for place, _ in own}
    try:
        for place, factors in own:
            weights[place.name].copy_(folded(weights[place.name], place, factors))
        yield
    finally:
        for name, value in before.items():
            weights[name].copy_(value)
