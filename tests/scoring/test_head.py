"""Losses in chunks are the stock model's losses, whatever its head does, and `[T, V]` never exists."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from rows_for_tests import FLOAT_NOISE, ids, losses, nll_rows, random_model, rotation, stock_nll
from torch.utils._python_dispatch import TorchDispatchMode

from ropewalk.errors import ModelError
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow, head, split

HEADS = {
    "llama": ("Llama", {}),
    "tied": ("Llama", {"tie_word_embeddings": True}),
    "gemma2 softcap": ("Gemma2", {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0}),
    "granite scale": ("Granite", {"logits_scaling": 4.0}),
    "starcoder2 bias": ("Starcoder2", {"use_bias": True}),
    "gpt_neox": ("GPTNeoX", {}),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("chunk_rows", [7, 1000])
def test_losses_are_those_of_the_stock_model(name, chunk_rows, monkeypatch):
    stem, changes = HEADS[name]
    model = random_model(stem, **changes)
    monkeypatch.setattr(head, "CHUNK_BYTES", dict.fromkeys(head.CHUNK_BYTES, 4 * 96 * chunk_rows))
    (found,) = losses(model, split(model), [NllRow(ids=ids(40), scheme=Scheme(rotation=rotation(model)))])
    assert found.dtype == np.float32
    assert found.shape == (39,)
    assert np.abs(found - stock_nll(model, ids(40))).max() < FLOAT_NOISE


def test_a_thousandth_more_of_softcap_or_scale_is_noticed():
    for stem, changes, field in (
        ("Gemma2", {"final_logit_softcapping": 3.0}, "softcap"),
        ("Granite", {"logits_scaling": 4.0}, "multiplier"),
    ):
        model = random_model(stem, **changes)
        parts = split(model)
        wrong = dataclasses.replace(parts.head, **{field: getattr(parts.head, field) * 1.001})
        (found,) = losses(
            model,
            dataclasses.replace(parts, head=wrong),
            [NllRow(ids=ids(40), scheme=Scheme(rotation=rotation(model)))],
        )
        assert np.abs(found - stock_nll(model, ids(40))).max() > 3 * FLOAT_NOISE, stem


def test_a_head_that_does_something_else_is_refused():
    model = random_model("Llama")
    stock = model.lm_head.forward
    model.lm_head.forward = lambda hidden: stock(hidden) * 1.001
    with pytest.raises(ModelError) as refusal:
        split(model)
    said = str(refusal.value)
    assert said.startswith("LlamaForCausalLM: logits from its last hidden state differ from its own by ")
    assert said.endswith("so it cannot be measured: report the architecture.")


class _Largest(TorchDispatchMode):
    """The most rows of any tensor whose last axis is the vocabulary, weights and their views aside."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.rows = vocabulary, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.ndim and tensor.shape[-1] == self.vocabulary:
                self.rows = max(self.rows, tensor.numel() // self.vocabulary)
        return out


@pytest.mark.parametrize(("chunk_rows", "expected"), [(33, 33), (1000, 99)])
def test_logits_of_all_positions_never_exist(chunk_rows, expected, monkeypatch):
    model = random_model("Llama", vocab_size=120)  # no other axis of this model has 120 entries
    parts = split(model)
    rows = [dataclasses.replace(row, ids=ids(100, seed)) for seed, row in enumerate(nll_rows(model, [100, 100]))]
    monkeypatch.setattr(head, "CHUNK_BYTES", dict.fromkeys(head.CHUNK_BYTES, 4 * 120 * chunk_rows))
    with _Largest(120) as largest:
        losses(model, parts, rows, batch_tokens=200)
    assert max(largest.rows, 33) == expected  # transposed weights have 32 rows of 120


@pytest.mark.parametrize("vocabulary", [7, 1024, 2048, 2053, 3072, 128_256])
def test_a_loss_in_parts_of_the_vocabulary_is_the_cross_entropy(vocabulary):
    torch.manual_seed(0)
    logits, targets = 20 * torch.randn(5, vocabulary), torch.randint(0, vocabulary, (5,))
    expected = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
    assert (head.token_nll(vocabulary)(logits, targets) - expected).abs().max() < FLOAT_NOISE
