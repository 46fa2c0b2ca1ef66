"""Gains in the weights give what gains at run time give: in place, and as a model directory that stock classes load."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from folding_models import NAMES, SHARED, at_run_time, gains_of, held, model_of, turns_of

from ropewalk.errors import ExportError, ModelError
from ropewalk.export.folding import Folding
from ropewalk.export.folding_hf import SHARD, fold_into
from ropewalk.models.query import by_head, query_places

IDS = tiny_models.tokens(rows=2, length=40)
NEAR = 1e-5
"""Of the largest logit: rounding of float32 through two layers."""


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_weights_hold_gains(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    turns, places = turns_of(model), query_places(model)
    assert by_head(places) == (name not in SHARED)
    gains, plain = gains_of(name, turns), tiny_models.logits(model, IDS)
    expected = at_run_time(model, turns, gains, IDS)
    assert off(plain, expected) > 1e-3  # they do something
    with held(model, places, turns, gains):
        assert off(tiny_models.logits(model, IDS), expected) < NEAR
    assert torch.equal(tiny_models.logits(model, IDS), plain)  # put back to the bit

    model.save_pretrained(tmp_path / "source")
    out = Path(shutil.copytree(tmp_path / "source", tmp_path / "out"))
    note = fold_into(out, Folding(gains=gains, pairs=turns.pairs))
    assert SHARD in note
    again = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    assert off(tiny_models.logits(again, IDS), expected) < NEAR


def test_a_second_file_of_weights_is_left_alone(tmp_path: Path) -> None:
    """Several shards: only the index and the new one are written, and links stay what they were."""
    model = model_of("llama")
    turns = turns_of(model)
    gains = gains_of("llama", turns)
    gains[0] = 0  # nothing of this layer changes
    model.save_pretrained(tmp_path / "source", max_shard_size="100KB")
    out = tmp_path / "out"
    out.mkdir()
    for file in (tmp_path / "source").iterdir():
        (out / file.name).hardlink_to(file)
    before = {file.name: file.read_bytes() for file in (tmp_path / "source").iterdir()}
    fold_into(out, Folding(gains=gains, pairs=turns.pairs))
    assert {file.name: file.read_bytes() for file in (tmp_path / "source").iterdir()} == before
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert [key for key, file in index.items() if file == SHARD] == ["model.layers.1.self_attn.q_proj.weight"]
    assert max(index.values()) == SHARD  # readers take the last
    again = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    assert off(tiny_models.logits(again, IDS), at_run_time(model, turns, gains, IDS)) < NEAR


def test_gains_per_head_are_refused_where_heads_share_a_norm() -> None:
    model = model_of("qwen3")
    turns = turns_of(model)
    with (
        pytest.raises(ModelError, match=r"q_norm.weight is shared by all heads .* rotation\+pair"),
        held(model, query_places(model), turns, gains_of("llama", turns)),
    ):
        pass
    with pytest.raises(ExportError, match=r"q_norm is shared by all heads"):
        Folding(gains=gains_of("llama", turns), pairs=turns.pairs).shared(0, "q_norm")


def _clipped() -> Any:
    model = model_of("llama")
    for layer in model.model.layers:
        layer.self_attn.clip_qkv = 8.0
    return model


def _doubled() -> Any:
    model = model_of("llama")
    for layer in model.model.layers:
        layer.self_attn.q_proj = torch.nn.Linear(64, 128, bias=False)
    return model


class Odd(torch.nn.Linear):
    """A projection whose weight is more than rows."""


def _odd() -> Any:
    model = model_of("llama")
    for layer in model.model.layers:
        layer.self_attn.q_proj = Odd(64, 64, bias=False)
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (_clipped, "clip_qkv"),
        (_doubled, "q_proj has 128 rows, where 4 heads of 16"),
        (_odd, "q_proj is a Odd"),
        (lambda: torch.nn.Linear(2, 2), "Linear makes its queries by none of"),
    ],
)
def test_what_cannot_hold_gains_is_refused(model: Any, said: str) -> None:
    with pytest.raises(ModelError, match=rf"{said}.*rotation"):
        query_places(model())


@pytest.mark.parametrize("name", ["llama", "cohere", "glm4", "gpt_neox", "gemma3"])
def test_pairs_are_found_by_turning_them(name: str) -> None:
    turns = turns_of(model_of(name))
    halves, neighbours = np.tile(np.arange(8), 2), np.repeat(np.arange(8), 2)
    still = np.full(8, -1)
    expected = {
        "llama": halves,
        "cohere": neighbours,
        "glm4": np.concatenate([neighbours, still, still]),
        "gpt_neox": np.concatenate([np.tile(np.arange(4), 2), still]),
        "gemma3": np.tile(np.arange(16), 2),
    }[name]
    assert turns.pairs.tolist() == expected.tolist()
    assert turns.layers == ((1,) if name == "gemma3" else (0, 1))  # gemma3's first layer slides
    assert (turns.depth, turns.heads) == (2, 4)


def test_a_folding_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Folding(gains=np.zeros((2, 4, 4), dtype=np.float32), pairs=np.arange(5))
