"""Batches, rotations side by side, prefixes, and what happens when memory or numbers run out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from rows_for_tests import (
    FLOAT_NOISE,
    ids,
    losses,
    nll_rows,
    outcomes,
    random_model,
    rotation,
    stock_logits,
    stock_nll,
)

from ropewalk.errors import ModelError
from ropewalk.models import placement
from ropewalk.scheme import Scheme
from ropewalk.scoring import (
    AnswerRow,
    Answers,
    Failure,
    NllRow,
    attention,
    fast,
    loop,
    score,
    score_shared,
    shared,
    split,
)


@pytest.fixture(scope="module")
def model():
    return random_model("Llama")


@pytest.fixture(scope="module")
def parts(model):
    return split(model)


def _rotations(model):
    methods = [("none", {}), ("linear", {"factor": 2}), ("yarn", {"factor": 4}), ("ntk_aware", {"factor": 3})]
    return [rotation(model, method, **params) for method, params in methods]


@pytest.mark.parametrize("kernels", ["stock", "fast"])
def test_rows_of_different_rotations_equal_single_rows(model, parts, kernels):
    rows = [NllRow(ids=ids(48, seed), scheme=Scheme(rotation=turn)) for seed, turn in enumerate(_rotations(model))]
    expected = [stock_nll(model, row.ids, row.scheme) for row in rows]
    if kernels == "fast":
        with fast(model, parts, compiled=False) as quick:
            together = losses(model, quick, rows, batch_tokens=4 * 48)
    else:
        together = losses(model, parts, rows, batch_tokens=4 * 48)
    for one, other in zip(together, expected, strict=True):
        assert np.abs(one - other).max() < FLOAT_NOISE
    turned = stock_nll(model, rows[1].ids, rows[0].scheme)
    assert np.abs(turned - expected[1]).max() > 1e-2  # the rotation does make a difference


@pytest.mark.parametrize("shares", [False, True])
def test_losses_are_sent_off_before_the_next_batch_is_begun(model, shares, monkeypatch):
    """As with two batches in flight: a copy that is asked for when losses are read comes behind all that was begun."""
    told = []

    def sent(tensor):
        told.append("sent")
        return Told(tensor, None)

    class Told(placement.Landing):
        def array(self):
            told.append("read")
            return super().array()

    monkeypatch.setattr(loop, "download", sent)
    for module in (loop, shared):
        monkeypatch.setattr(module, "in_flight", lambda model: 2)
    scheme, beginning = Scheme(rotation=rotation(model)), ids(64, 9)
    rows = [NllRow(ids=ids(40, seed), scheme=scheme) for seed in range(4)]
    prompts = [np.concatenate([beginning, ids(8, seed)]) for seed in range(4)]
    asked = [AnswerRow(ids=prompt, scheme=scheme, answer_tokens=3) for prompt in prompts]
    with fast(model, split(model), compiled=False) as parts:
        parts = dataclasses.replace(parts, body=lambda *given, own=parts.body: told.append("begun") or own(*given))
        found = score_shared(model, parts, asked, 64) if shares else score(model, parts, rows, 40)
        assert len(list(found)) == 4
    of_each = 2 if shares else 1
    assert told[: 3 * (1 + of_each)] == ["begun", *["sent"] * of_each] * 3
    assert told[3 * (1 + of_each)] == "read"


@pytest.mark.parametrize("stem", ["Llama", "Mistral"])
def test_only_the_tokens_that_are_asked_for_are_scored(stem):
    """Windows of one length whose last tokens count, beside one that counts whole; with and without sliding windows."""
    model = random_model(stem, **({"sliding_window": 16} if stem == "Mistral" else {}))
    turn = rotation(model)
    for firsts in ([30, 41, 47], [30, 1]):
        rows = [
            NllRow(ids=ids(48, seed), scheme=Scheme(rotation=turn), first=first) for seed, first in enumerate(firsts)
        ]
        with fast(model, split(model), compiled=False) as quick:
            found = losses(model, quick, rows, batch_tokens=3 * 48)
        for row, one in zip(rows, found, strict=True):
            assert len(one) == 48 - row.first
            assert np.abs(one - stock_nll(model, row.ids)[row.first - 1 :]).max() < FLOAT_NOISE


def test_lengths_and_kinds_mix(model, parts):
    rows = [
        *nll_rows(model, [20, 33, 20, 47]),
        AnswerRow(ids=ids(33, 9), scheme=Scheme(rotation=rotation(model)), answer_tokens=3),
    ]
    found = outcomes(model, parts, rows, batch_tokens=100)
    for row, outcome in zip(rows[:4], found[:4], strict=True):
        assert np.abs(outcome - stock_nll(model, row.ids)).max() < FLOAT_NOISE
    assert isinstance(found[4], Answers)
    assert np.abs(found[4].nll - stock_nll(model, rows[4].ids)[-3:]).max() < FLOAT_NOISE
    assert found[4].predicted.tolist() == stock_logits(model, rows[4].ids)[-4:].argmax(-1).tolist()
    assert found[4].predicted.dtype == np.int32


def test_no_batch_holds_more_than_the_budget(model, parts):
    seen = []

    def body(ids_BT, *more):
        seen.append(tuple(ids_BT.shape))
        return parts.body(ids_BT, *more)

    losses(model, dataclasses.replace(parts, body=body), nll_rows(model, [10, 30, 10, 10, 30, 10]), batch_tokens=35)
    assert sorted(seen) == [(1, 30), (1, 30), (2, 10), (2, 10)]  # 3 rows would fit, even parts are the same work


@pytest.mark.parametrize("short", [2, 3, 17, 63])
def test_a_longer_pass_has_the_same_losses_at_its_beginning(model, parts, short):
    for turn in _rotations(model):
        long_row = NllRow(ids=ids(64), scheme=Scheme(rotation=turn))
        short_row = NllRow(ids=ids(64)[:short], scheme=Scheme(rotation=turn))
        (longer,), (shorter,) = losses(model, parts, [long_row]), losses(model, parts, [short_row])
        assert np.abs(longer[: short - 1] - shorter).max() < FLOAT_NOISE


def _limited(parts, fits):
    """Parts whose body runs out of memory where `fits(rows, tokens)` is false, and the shapes that it was asked for."""
    asked = []

    def body(ids_BT, *more):
        asked.append(tuple(ids_BT.shape))
        if not fits(*ids_BT.shape):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return parts.body(ids_BT, *more)

    return dataclasses.replace(parts, body=body), asked


def test_out_of_memory_halves_the_batch_and_stays_there(model, parts):
    rows = nll_rows(model, [16] * 9)
    limited, asked = _limited(parts, lambda count, tokens: count <= 2)
    found = losses(model, limited, rows, batch_tokens=8 * 16)
    assert [count for count, _ in asked if count > 2] == [5]
    assert [count for count, _ in asked if count <= 2] == [2, 2, 2, 2, 1]
    for one, other in zip(found, losses(model, parts, rows), strict=True):
        assert np.abs(one - other).max() < FLOAT_NOISE


def test_what_does_not_fit_alone_is_a_failure_and_the_rest_goes_on(model, parts):
    rows = nll_rows(model, [16, 40, 16])
    limited, _ = _limited(parts, lambda _, tokens: tokens < 40)
    found = outcomes(model, limited, rows, batch_tokens=64)
    assert found[1] == Failure(status="out_of_memory", reason="a single row of 40 tokens did not fit in memory")
    assert np.abs(found[0] - stock_nll(model, rows[0].ids)).max() < FLOAT_NOISE
    assert isinstance(found[2], np.ndarray)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_other_words_for_out_of_memory(model, parts, error):
    def body(ids_BT, *more):
        raise error

    (found,) = outcomes(model, dataclasses.replace(parts, body=body), nll_rows(model, [8]), 8)
    assert found.status == "out_of_memory"


def test_other_errors_are_raised(model, parts):
    def body(ids_BT, *more):
        raise RuntimeError("index out of range in self")

    with pytest.raises(RuntimeError, match="index out of range"):
        list(score(model, dataclasses.replace(parts, body=body), nll_rows(model, [8]), 8))
    assert "forward" not in model.model.rotary_emb.__dict__  # and the model is as it was


def _failing(model, error):
    """The model with a layer that raises on more than 20 tokens."""
    stock = model.model.layers[1].mlp.forward

    def limited(x):
        if x.shape[1] > 20:
            raise type(error)(*error.args)
        return stock(x)

    model.model.layers[1].mlp.forward = limited
    return model


def test_a_pass_that_the_model_itself_fails_is_a_failure_of_its_row():
    model = _failing(random_model("Llama"), IndexError("index 21 is out of bounds"))
    rows = nll_rows(model, [16, 24, 24])
    found = outcomes(model, split(model), rows, batch_tokens=64)
    assert np.abs(found[0] - stock_nll(model, rows[0].ids)).max() < FLOAT_NOISE
    said = "LlamaForCausalLM: its own forward pass failed (IndexError: index 21 is out of bounds); check that its "
    assert (
        found[1]
        == found[2]
        == Failure(status="error", reason=f"{said}configuration belongs to its weights and allows so many tokens.")
    )


def test_a_mistake_of_our_own_inside_the_forward_pass_keeps_its_traceback(monkeypatch):
    model = random_model("Llama")
    rows = nll_rows(model, [24])

    def wrong(*_):
        raise IndexError("ours")

    with fast(model, split(model), compiled=False) as quick:
        monkeypatch.setattr(attention, "_next_layer", wrong)
        with pytest.raises(IndexError, match="ours"):
            outcomes(model, quick, rows, 64)


@pytest.mark.parametrize("run", [score, score_shared])
def test_a_token_that_the_model_does_not_know(run):
    model = random_model("Llama")
    row = AnswerRow(ids=np.array([5, 96, 6, 7], np.int32), scheme=Scheme(rotation=rotation(model)), answer_tokens=2)
    with pytest.raises(ModelError) as refusal:
        list(run(model, split(model), [row], 64))
    assert str(refusal.value) == (
        "LlamaForCausalLM: its tokenizer gives token 96, but it has embeddings of 96 tokens only; use the tokenizer "
        "that belongs to the model."
    )


def test_a_loss_that_is_no_number_is_an_error_of_its_row_alone(model, parts):
    rows = nll_rows(model, [16, 16])

    def body(ids_BT, *more):
        hidden = parts.body(ids_BT, *more).clone()
        hidden[1, 5] = float("nan")
        return hidden

    found = outcomes(model, dataclasses.replace(parts, body=body), rows, batch_tokens=32)
    assert found[1] == Failure(
        status="error", reason="the loss at scored token 6 is nan; try dtype float32 or bfloat16"
    )
    assert np.abs(found[0] - stock_nll(model, rows[0].ids)).max() < FLOAT_NOISE


def test_an_answer_without_numbers_is_an_error(model, parts):
    def body(ids_BT, *more):
        return parts.body(ids_BT, *more) * float("inf")

    row = AnswerRow(ids=ids(16), scheme=Scheme(rotation=rotation(model)), answer_tokens=3)
    (found,) = outcomes(model, dataclasses.replace(parts, body=body), [row], 16)
    assert isinstance(found, Failure)
    assert found.status == "error"


def test_a_cpu_gives_a_batch_before_it_begins_the_next(model, parts):
    """So that what is stored, and when, is of the batch that was computed last."""
    begun = []

    def body(ids_BT, *more):
        begun.append(len(ids_BT))
        return parts.body(ids_BT, *more)

    given = score(model, dataclasses.replace(parts, body=body), nll_rows(model, [16] * 4), 32)
    assert [len(begun) for _ in given] == [1, 2]
