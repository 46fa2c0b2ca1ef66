"""Every fast path is held against the model itself first, and left out where it gives other numbers."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from rows_for_tests import FLOAT_NOISE, ids, losses, outcomes, random_model, rotation, stock_logits, stock_nll

from ropewalk.errors import ModelError
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, NllRow, attention, fast, kernels, score_shared, shared, split
from ropewalk.scoring.proofs import first_beyond

LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
LATENT |= {"head_dim": 8, "num_key_value_heads": 2}
EXPERTS = {"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
EXPERTS |= {"n_shared_experts": 1, "first_k_dense_replace": 1}
MEITUAN = {"ffn_hidden_size": 32, "expert_ffn_hidden_size": 16, "moe_topk": 2, "n_routed_experts": 4}
INDEXED = {"index_topk": 8, "index_head_dim": 16, "index_n_heads": 2}

NARROW = {
    "DeepseekV3": LATENT | EXPERTS,
    "Glm4MoeLite": LATENT | EXPERTS,
    "MiniCPM3": LATENT,
    "Youtu": LATENT,
    "LongcatFlash": LATENT | MEITUAN | {"zero_expert_num": 1, "num_layers": 2},
}
SPARSE = dict.fromkeys(("DeepseekV32", "GlmMoeDsa", "AXK2", "HYV4"), LATENT | EXPERTS | INDEXED)
TWICE = {"num_key_value_heads": 2, "num_attention_heads": 4, "head_dim": 8}


@pytest.fixture(autouse=True)
def short_prompts_share(monkeypatch):
    monkeypatch.setattr(shared, "CPU_GRAIN", 4)


def prompts(model, length=64):
    built = []
    for seed, fork in enumerate((40, 44, 52), start=1):
        built.append(np.concatenate([ids(length)[:fork], ids(length, seed)[fork:]]))
    turns = [rotation(model), rotation(model, "linear", factor=2)]
    return [AnswerRow(ids=prompt, scheme=Scheme(rotation=turn), answer_tokens=4) for turn in turns for prompt in built]


def require_stock(model, parts, length=64):
    """Documents, windows of which the end counts, and prompts that share a beginning, as the model itself says."""
    rows = [NllRow(ids=ids(length, 7), scheme=row.scheme, first=first) for row in prompts(model) for first in (1, 50)]
    for row, found in zip(rows, losses(model, parts, rows, 1000), strict=True):
        assert np.abs(found - stock_nll(model, row.ids, row.scheme)[row.first - 1 :]).max() < FLOAT_NOISE
    rows = prompts(model, length)
    for row, found in zip(rows, outcomes(model, parts, rows, 1000, run=score_shared), strict=True):
        assert np.abs(found.nll - stock_nll(model, row.ids, row.scheme)[-4:]).max() < FLOAT_NOISE
        assert found.predicted.tolist() == stock_logits(model, row.ids, row.scheme)[-5:].argmax(-1).tolist()


@pytest.mark.parametrize("stem", SPARSE)
def test_sparse_attention_is_left_to_the_model(stem):
    """It hands its chosen keys to a kernel of its own, unless attention goes by a name that it knows."""
    model = random_model(stem, **SPARSE[stem])
    before = model.config._attn_implementation
    with fast(model, split(model), compiled=False) as parts:
        require_stock(model, parts)
    said = (
        f"{stem}ForCausalLM: the fast attention is left out: ModelError: {stem}Attention: its attention has indices, "
    )
    assert parts.left_out == (f"{said}which fast kernels do not compute.",)
    assert (parts.attention, parts.held, parts.tail) == (before, False, True)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("stem", NARROW)
def test_values_narrower_than_keys(stem):
    model = random_model(stem, **NARROW[stem])
    with fast(model, split(model), compiled=False) as parts:
        require_stock(model, parts)
    assert (parts.attention, parts.held, parts.tail, parts.left_out) == ("ropewalk", True, True, ())


def test_a_layer_that_attends_twice_keeps_what_holds(caplog):
    model = random_model("DiffLlama", **TWICE)
    with caplog.at_level(logging.WARNING), fast(model, split(model), compiled=False) as parts:
        require_stock(model, parts)
    assert (parts.attention, parts.held, parts.tail) == ("ropewalk", False, False)
    tail, held = parts.left_out
    assert tail.startswith("DiffLlamaForCausalLM: a last layer for the wanted positions alone is left out: hidden ")
    assert held == (
        "DiffLlamaForCausalLM: prompts that begin alike are fed whole: 4 calls of the fast attention in 2 layers"
    )
    assert [record.getMessage() for record in caplog.records] == [tail, held]


def replaced(module, change):
    """Let a module's output go through `change`."""
    stock = module.forward
    module.forward = lambda *args, **kwargs: change(stock(*args, **kwargs))


def test_an_mlp_that_looks_at_other_positions():
    model = random_model("Llama")
    replaced(model.model.layers[0].mlp, lambda out: torch.cumsum(out, dim=-2))
    with fast(model, split(model), compiled=False) as parts:
        require_stock(model, parts)
    assert parts.attention == "ropewalk"
    assert not parts.held
    assert "MLPs in chunks is left out: hidden states differ" in parts.left_out[0]


def test_a_model_that_mixes_positions_after_its_last_layer():
    model = random_model("Llama")
    replaced(model.model.norm, lambda out: torch.cumsum(out, dim=-2))
    with fast(model, split(model), compiled=False) as parts:
        require_stock(model, parts)
    assert (parts.tail, parts.held) == (False, False)
    assert "a last layer for the wanted positions alone is left out" in parts.left_out[0]


def test_rows_that_disturb_each_other_go_alone():
    model = random_model("Llama")
    replaced(model.model.layers[0].self_attn.q_proj, lambda out: out + out.roll(1, dims=0))
    parts = split(model)
    assert not parts.rows
    assert parts.left_out[0].startswith("LlamaForCausalLM: rows are scored one by one: hidden states differ by ")
    with fast(model, parts, compiled=False) as quick:
        require_stock(model, quick)


def test_attention_that_is_off_by_a_thousandth(monkeypatch):
    """The kernels are right for this model; the proof must notice if they were not."""
    right = attention.scaled_dot_product_attention
    monkeypatch.setattr(attention, "scaled_dot_product_attention", lambda *a, **k: right(*a, **k) * 1.001)
    model = random_model("Llama")
    with fast(model, split(model), compiled=False) as parts:
        require_stock(model, parts)
    assert parts.attention == "sdpa"
    assert "LlamaForCausalLM: the fast attention is left out: hidden states differ by " in parts.left_out[0]


def test_a_loaded_attention_that_is_wrong_gives_way_to_the_eager_one():
    def deaf(module, query, key, value, mask, **kwargs):
        return query.transpose(1, 2).contiguous(), None

    attention.AttentionInterface.register("deaf", deaf)
    model = random_model("Gemma2", attn_logit_softcapping=1.0, query_pre_attn_scalar=16)
    model.set_attn_implementation("eager")
    expected = stock_nll(model, ids(64))
    model.set_attn_implementation("deaf")
    assert np.abs(stock_nll(model, ids(64)) - expected).max() > 0.1
    with fast(model, split(model), compiled=False) as parts:
        (found,) = losses(model, parts, [NllRow(ids=ids(64), scheme=Scheme(rotation=rotation(model)))])
    assert np.abs(found - expected).max() < FLOAT_NOISE
    assert "the attention 'deaf' that it was loaded with is left out for 'eager'" in parts.left_out[0]


def test_what_begins_late_is_reached_where_a_run_reaches_it():
    """Attention that changes beyond 100 tokens, which 64 tokens do not show."""
    model = random_model("Llama", max_position_embeddings=512)
    model.config.far_block_size = 100
    stock = model.model.layers[0].self_attn.forward

    def forgetful(hidden_states, **kwargs):
        out, weights = stock(hidden_states=hidden_states, **kwargs)
        late = torch.arange(out.shape[1]) >= 100
        own = model.config._attn_implementation in ("eager", "sdpa")
        return torch.where(late[None, :, None] & own, 0.5 * out, out), weights

    model.model.layers[0].self_attn.forward = forgetful
    with fast(model, split(model), compiled=False, longest=90) as parts:
        assert parts.left_out == ()
    with fast(model, split(model), compiled=False, longest=150) as parts:
        assert parts.attention == "sdpa"
        assert "on 150 tokens" in parts.left_out[0]
        require_stock(model, parts, length=150)


def test_how_far_a_proof_has_to_reach():
    text = random_model("Mistral", sliding_window=16).config
    assert first_beyond(text, 128) == 16
    assert first_beyond(text, 16) is None  # no pass is long enough
    assert first_beyond(random_model("DeepseekV32", **SPARSE["DeepseekV32"]).config, None) == 8
    assert first_beyond(random_model("Llama").config, None) is None


def test_a_path_that_does_not_fit_is_left_out_too(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(kernels, "_chunked", lambda forward: full)
    model = random_model("Llama")
    with fast(model, split(model), compiled=False) as parts:
        require_stock(model, parts)
    assert "MLPs in chunks is left out: it did not fit into memory" in parts.left_out[0]


def test_a_forward_pass_that_fails_is_one_sentence():
    model = random_model("Llama")
    del model.model.layers[1].mlp.down_proj
    with pytest.raises(ModelError) as refusal:
        split(model)
    assert str(refusal.value).startswith("LlamaForCausalLM: its own forward pass failed (AttributeError: ")
