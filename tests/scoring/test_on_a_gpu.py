"""What only a GPU runs, against its slow twins; skipped where there is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from rows_for_tests import ids, losses, random_model, rotation

from ropewalk.models.placement import download
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow, fast, split
from ropewalk.scoring.kernels import HOPPER

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning"),  # torch 2.11's own compiler
]

WIDE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "initializer_range": 0.05,
}


def on_the_gpu(stem, **changes):
    model = random_model(stem, **WIDE | changes).to("cuda")
    for layer in (*model.model.layers, model.model.embed_tokens, model.model.norm, model.lm_head):
        layer.to(torch.bfloat16)  # but not the rotary embedding
    return model


@pytest.mark.parametrize("stem", ["Llama", "Granite", "Gemma2"])
def test_compiled_layers_and_losses_are_those_of_plain_ones(stem):
    """Granite scales its logits; Gemma 2 caps them, which the fused loss does not know."""
    changes = {"Granite": {"logits_scaling": 4.0}, "Gemma2": {"attn_logit_softcapping": None}}.get(stem, {})
    model = on_the_gpu(stem, **changes)
    rows = [NllRow(ids=ids(2048, seed, 1000), scheme=Scheme(rotation=rotation(model))) for seed in range(2)]
    plain = losses(model, split(model), rows)
    with fast(model, split(model), compiled=True) as quick:
        assert (quick.head.fused is not None) == (stem != "Gemma2" and torch.cuda.get_device_capability() == HOPPER)
        found = losses(model, quick, rows, batch_tokens=2 * 2048)
    for one, other in zip(found, plain, strict=True):
        assert np.abs(one - other).mean() < 0.02  # bfloat16 layers
        assert abs(float(one.mean() - other.mean())) < 2e-3


@pytest.mark.parametrize("vocabulary", [512, 1000, 128_256])
@pytest.mark.parametrize(("count", "depth"), [(1, 64), (300, 576), (1000, 2048)])
@pytest.mark.parametrize("multiplier", [1.0, 0.25])
def test_the_fused_loss_is_the_cross_entropy(vocabulary, count, depth, multiplier):
    if torch.cuda.get_device_capability() != HOPPER:
        pytest.skip("the fused loss is for Hopper")
    from ropewalk.scoring import fused

    torch.manual_seed(0)
    hidden = torch.randn(count, depth, device="cuda", dtype=torch.bfloat16)
    weight = (torch.randn(vocabulary, depth, device="cuda") * 3 / depth**0.5).to(torch.bfloat16)
    targets = torch.randint(0, vocabulary, (count,), device="cuda")
    exact = torch.nn.functional.cross_entropy(
        multiplier * hidden.double() @ weight.double().T, targets, reduction="none"
    )
    found = fused.nll(hidden, targets, weight, multiplier)
    assert (found - exact).abs().max() < 1e-4  # tensor cores cut sums off: 3e-5 at depth 2048


def test_the_fused_loss_is_that_of_chunks():
    model = on_the_gpu("Llama")
    parts = split(model)
    hidden = torch.randn(5000, 256, device="cuda", dtype=torch.bfloat16)
    targets = torch.randint(0, 1000, (5000,), device="cuda")
    with torch.inference_mode(), fast(model, parts, compiled=True) as quick:
        found = quick.head.nll(hidden, targets)
        chunked = dataclasses.replace(quick.head, fused=None).nll(hidden, targets)
    assert (found - chunked).abs().max() < 2e-5


def test_what_is_read_waits_for_nothing_that_was_begun_after_it():
    """Else no batch is in flight while the one before is stored, and the halves of a cut model take turns."""
    known = torch.arange(1000, device="cuda") * 2
    sent, later = download(known), torch.cuda.Event()
    torch.cuda._sleep(2_000_000_000)  # cycles, a second
    later.record()
    assert np.array_equal(sent.array(), np.arange(1000) * 2)
    assert not later.query()


def test_gradients_of_a_tuning_come_out_the_same_to_the_bit():
    """In three models one after the other: attention's gradients are summed over 4096 keys, in one order. Of the last
    model layers are computed again for the backward pass, which the others keep."""
    from ropewalk.models.geometry import geometry_of
    from ropewalk.tuning import draws, loss, order, parameters
    from ropewalk.tuning.forward import opened
    from ropewalk.tuning.pairs import turning

    prompt = draws.Prompt(ids=ids(4096, 1, 1000), answer_tokens=5, needle=slice(0, 0))
    drawn = draws.Draw(text=draws.whole(ids(4096, 0, 1000), 1024), prompt=prompt)
    found = []
    for again in (False, False, True):
        model = on_the_gpu("Llama").requires_grad_(False)
        parts, turns, none = split(model), turning(model), rotation(model)
        with opened(model, parts, turns) as tunable, order.repeatable():
            shape = parameters.shape_of("rotation+head+pair", turns)
            assert tunable.room.tokens > 4096
            tunable.room.tokens = 0 if again else tunable.room.tokens
            begins = parameters.start(geometry_of(model.config), none, shape, torch.device("cuda"))
            loss.descend(tunable, begins, drawn, 1024, none, loss.Weights())
            found.append({name: tensor.grad.clone() for name, tensor in begins.named().items()})
    for other in found[1:]:
        assert all(torch.equal(slope, other[name]) for name, slope in found[0].items())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
def test_a_model_cut_over_two_gpus_scores_and_goes_on_as_it_does_whole():
    """Every fast path is proven on it, and what all layers are given is copied once a pass, forth alone: the rotation
    is made on the first GPU, wherever accelerate puts its module."""
    from accelerate import dispatch_model
    from torch.profiler import ProfilerActivity

    from ropewalk.models.spread import lighten

    found, copies = [], []
    for cut in (False, True):
        model = on_the_gpu("Llama", num_hidden_layers=6)
        rows = [NllRow(ids=ids(2048, seed, 1000), scheme=Scheme(rotation=rotation(model))) for seed in (0, 1)]
        if cut:
            places = {f"model.layers.{i}": int(i >= 3) for i in range(6)}
            places |= {"model.embed_tokens": 0, "model.rotary_emb": 1, "model.norm": 1, "lm_head": 1}
            lighten(dispatch_model(model, device_map=places))
        with fast(model, split(model), compiled=True) as quick:
            assert quick.left_out == ()
            assert quick.held
            found.append(losses(model, quick, rows, batch_tokens=2048))
            if cut:
                with torch.profiler.profile(activities=[ProfilerActivity.CUDA], acc_events=True) as watched:
                    losses(model, quick, rows[:1])
                copies = [event.name for event in watched.events() if "PtoP" in event.name]
    assert len(copies) <= 4  # hidden states, cos, sin and positions; three layers have nine of the last
    for one, other in zip(*found, strict=True):
        assert np.abs(one - other).mean() < 0.02  # bfloat16, other batches
