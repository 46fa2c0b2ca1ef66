"""Prompts that share a beginning get the answers that each would get alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from rows_for_tests import FLOAT_NOISE, ids, outcomes, random_model, rotation, stock_logits, stock_nll
from transformers import masking_utils

from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, fast, score_shared, shared, split
from ropewalk.scoring.attention import MASKED, name_for
from ropewalk.scoring.shared import walk

SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
ARCHITECTURES = {
    "llama": ("Llama", {}),
    "gpt_neox": ("GPTNeoX", {}),
    "phi3": ("Phi3", {"num_key_value_heads": 2, "original_max_position_embeddings": 128}),
    "mistral, sliding window": ("Mistral", {"sliding_window": 16}),
    "gemma3, some layers sliding": ("Gemma3", SLIDING),
    "olmo3, some layers sliding": ("Olmo3", SLIDING),
}


@pytest.fixture(autouse=True)
def short_prompts_share(monkeypatch):
    monkeypatch.setattr(shared, "CPU_GRAIN", 4)


def prompts(model, forks=(40, 44, 52), length=64):
    """Three prompts that leave a common stream at different places, under two rotations."""
    stream = ids(length)
    built = []
    for seed, fork in enumerate(forks, start=1):
        prompt = stream.copy()
        prompt[fork:] = ids(length, seed)[fork:]
        built.append(prompt)
    turns = [rotation(model), rotation(model, "yarn", factor=2)]
    return [AnswerRow(ids=prompt, scheme=Scheme(rotation=turn), answer_tokens=4) for turn in turns for prompt in built]


def _stock(model, row):
    return stock_nll(model, row.ids, row.scheme)[-4:], stock_logits(model, row.ids, row.scheme)[-5:].argmax(-1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_answers_are_those_of_the_stock_model(name):
    stem, changes = ARCHITECTURES[name]
    model = random_model(stem, **changes)
    rows = prompts(model)
    with fast(model, split(model), compiled=False) as parts:
        found = outcomes(model, parts, rows, 1000, run=score_shared)
    for row, answers in zip(rows, found, strict=True):
        nll, predicted = _stock(model, row)
        assert np.abs(answers.nll - nll).max() < FLOAT_NOISE
        assert answers.predicted.tolist() == predicted.tolist()


def test_fewer_tokens_are_fed(monkeypatch):
    model = random_model("Llama")
    rows = prompts(model, (97, 105, 113), 128)
    fed = []
    with fast(model, split(model), compiled=False) as parts:

        def body(ids_BT, *more):
            fed.append(ids_BT.numel())
            return parts.body(ids_BT, *more)

        outcomes(model, dataclasses.replace(parts, body=body), rows, 1000, run=score_shared)
    assert sum(fed) < 0.7 * sum(len(row.ids) for row in rows)
    assert [tokens % 8 for tokens in fed] == [0] * len(fed)  # two rotations, a grain of four


@pytest.mark.parametrize("forks", [(0, 0, 0), (1, 2, 3), (64, 64, 64)])
def test_prompts_that_share_nothing_or_everything(forks):
    model = random_model("Llama")
    rows = prompts(model, forks)
    with fast(model, split(model), compiled=False) as parts:
        found = outcomes(model, parts, rows, 1000, run=score_shared)
    for row, answers in zip(rows, found, strict=True):
        assert np.abs(answers.nll - _stock(model, row)[0]).max() < FLOAT_NOISE


@pytest.mark.parametrize("fits", [1, 0])
def test_out_of_memory_goes_down_to_single_rows_and_then_fails(fits):
    model = random_model("Llama")
    rows = prompts(model)
    with fast(model, split(model), compiled=False) as parts:

        def body(ids_BT, *more):
            if ids_BT.shape[0] > fits:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return parts.body(ids_BT, *more)

        found = outcomes(model, dataclasses.replace(parts, body=body), rows, 1000, run=score_shared)
    if not fits:
        assert {answers.status for answers in found} == {"out_of_memory"}
        return
    for row, answers in zip(rows, found, strict=True):
        assert np.abs(answers.nll - _stock(model, row)[0]).max() < FLOAT_NOISE


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_last_layer_works_only_for_the_answer(name):
    stem, changes = ARCHITECTURES[name]
    model = random_model(stem, **changes)
    rows = prompts(model)
    widths = []
    with fast(model, split(model), compiled=False) as parts:
        for layer in model.get_decoder().layers:
            down = getattr(layer.mlp, "down_proj", None) or layer.mlp.dense_4h_to_h
            down.register_forward_hook(lambda module, given, out: widths.append(out.shape[-2]))
        found = outcomes(model, parts, rows, 1000)
    assert widths == [64 * len(rows), 5 * len(rows)]  # MLPs take all rows as one
    for row, answers in zip(rows, found, strict=True):
        nll, predicted = _stock(model, row)
        assert np.abs(answers.nll - nll).max() < FLOAT_NOISE
        assert answers.predicted.tolist() == predicted.tolist()


def test_a_walk_feeds_every_node_of_the_prefix_tree_once():
    """Prompts of several lengths: what is fed in all is the number of different beginnings."""
    stream = ids(64)
    built = [stream[:48].copy(), stream.copy(), stream.copy(), stream[:32].copy(), stream.copy()]
    for seed, (prompt, fork) in enumerate(zip(built, (30, 40, 50, 20, 40), strict=True), start=1):
        prompt[fork:] = ids(64, seed)[fork : len(prompt)]
    built[4][44:] = ids(64, 9)[44:]
    steps = walk(built, [4] * len(built))
    assert sorted(step.prompt for step in steps) == list(range(len(built)))
    nodes = {prompt[:end].tobytes() for prompt in built for end in range(1, len(prompt) + 1)}
    assert sum(len(built[step.prompt]) - step.shared for step in steps) == len(nodes)
    before = built[0][:0]
    for step in steps:
        assert (built[step.prompt][: step.shared] == before[: step.shared]).all()
        before = built[step.prompt]


def test_a_walk_of_a_grain_feeds_multiples_of_it_or_whole_prompts():
    stream = ids(200)
    built = [
        np.concatenate([stream[:fork], ids(200, fork)[fork:end]]) for fork, end in ((30, 200), (70, 90), (150, 200))
    ]
    fine, coarse = walk(built, [4] * 3), walk(built, [4] * 3, 64)
    assert [step.prompt for step in coarse] == [step.prompt for step in fine]
    fed = [len(built[step.prompt]) - step.shared for step in coarse]
    for step, exact, new in zip(coarse, fine, fed, strict=True):
        assert step.shared <= exact.shared
        assert new == len(built[step.prompt]) or (new % 64 == 0 and exact.shared - step.shared < 64)
    assert {64, 128} & set(fed)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_some_prompts_alone_give_the_same_bits(name):
    """What a resumed sweep still has to do must not depend on what was done."""
    stem, changes = ARCHITECTURES[name]
    model = random_model(stem, **changes)
    rows = prompts(model)
    fed = []
    with fast(model, split(model), compiled=False) as parts:

        def body(ids_BT, positions_1T=None):
            fed.append(ids_BT.numel())
            return parts.body(ids_BT, positions_1T)

        counted = dataclasses.replace(parts, body=body)
        whole = dict(item for batch in score_shared(model, counted, rows, 1000) for item in batch)
        every = sum(fed)
        for wanted in ([0], [3], [len(rows) - 1], [1, 4, 5], list(range(2, len(rows)))):
            fed.clear()
            some = dict(item for batch in score_shared(model, counted, rows, 1000, wanted) for item in batch)
            assert sorted(some) == wanted
            assert sum(fed) < every or len(wanted) > 1
            for index, outcome in some.items():
                assert (outcome.nll == whole[index].nll).all()
                assert (outcome.predicted == whole[index].predicted).all()


def test_models_that_see_everything_get_no_mask(monkeypatch):
    """Looking for one makes a GPU wait in every pass."""

    def looked(*_, **__):
        raise AssertionError("looked for packed sequences")

    models = [random_model(stem) for stem in ("Llama", "Qwen3", "GPTNeoX")]
    parts = [split(model) for model in models]
    for model, own in zip(models, parts, strict=True):
        with fast(model, own, compiled=False) as quick, monkeypatch.context() as watching:
            watching.setattr(masking_utils, "find_packed_sequence_indices", looked)
            outcomes(model, quick, prompts(model), 1000, run=score_shared)
    for stem, changes in (("Mistral", {"sliding_window": 16}), ("Gemma3", SLIDING), ("Qwen3Next", {})):
        assert name_for(random_model(stem, **changes).config) == MASKED


def test_attention_with_more_than_keys_is_left_to_the_model():
    model = random_model("Gemma2", attn_logit_softcapping=1.0, query_pre_attn_scalar=16)
    model.set_attn_implementation("eager")
    with fast(model, split(model), compiled=False) as parts:
        found = outcomes(model, parts, prompts(model), 1000, run=score_shared)
    assert parts.attention == "eager"
    assert "the fast attention is left out: ModelError: Gemma2Attention: its attention has softcap" in parts.left_out[0]
    for row, answers in zip(prompts(model), found, strict=True):
        assert np.abs(answers.nll - _stock(model, row)[0]).max() < FLOAT_NOISE
