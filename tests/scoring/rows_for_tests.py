"""Rows, rotations and stock losses that the scoring tests share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from ropewalk.methods import make_params, resolve
from ropewalk.models import geometry_of, patched
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.scoring import Failure, NllRow, Split, score

FLOAT_NOISE = 2e-5
"""Nats: losses of about 10, logits of about 30, float32 sums in another order (2^-24 * 30 * some tens of terms)."""

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "vocab_size": 96,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}


def random_model(stem: str, **changes: Any) -> Any:
    """A tiny random model of an architecture."""
    torch.manual_seed(0)
    values = {**SMALL, **changes}
    kind = getattr(transformers, f"{stem}TextConfig", None) or getattr(transformers, f"{stem}Config")
    return getattr(transformers, f"{stem}ForCausalLM")(kind(**values)).eval().requires_grad_(False)


def ids(length: int, seed: int = 0, vocabulary: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, vocabulary, length).astype(np.int32)


def rotation(model: Any, method: str = "none", **params: Any) -> Rotation:
    return resolve(geometry_of(model.config), method, make_params(method, params), 64).rotation


def nll_rows(model: Any, lengths: Iterable[int]) -> list[NllRow]:
    return [
        NllRow(ids=ids(length, seed), scheme=Scheme(rotation=rotation(model))) for seed, length in enumerate(lengths)
    ]


def outcomes(model: Any, parts: Split, rows: Sequence[Any], batch_tokens: int, run: Any = score) -> list[Any]:
    """Every row's outcome in the order of the rows; each must come exactly once."""
    found: dict[int, Any] = {}
    for batch in run(model, parts, rows, batch_tokens):
        for index, outcome in batch:
            assert index not in found
            found[index] = outcome
    assert sorted(found) == list(range(len(rows)))
    return [found[index] for index in range(len(rows))]


def losses(model: Any, parts: Split, rows: Sequence[Any], batch_tokens: int = 1) -> list[np.ndarray]:
    found = outcomes(model, parts, rows, batch_tokens)
    assert not any(isinstance(outcome, Failure) for outcome in found), found
    return found


def stock_logits(model: Any, tokens: np.ndarray, rotation: Rotation | None = None) -> torch.Tensor:
    """`[T, V]` from the model's own forward."""
    fed = torch.from_numpy(tokens.astype(np.int64))[None]
    with torch.no_grad():
        if rotation is None:
            return model(input_ids=fed, use_cache=False).logits[0].float()
        with patched(model, rotation):
            return model(input_ids=fed, use_cache=False).logits[0].float()


def stock_nll(model: Any, tokens: np.ndarray, rotation: Rotation | None = None) -> np.ndarray:
    logits = stock_logits(model, tokens, rotation)[:-1]
    targets = torch.from_numpy(tokens[1:].astype(np.int64))
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none").numpy()
