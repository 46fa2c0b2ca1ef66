"""Prompts that share beginnings and decode beside each other say what transformers' own loop says of each alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import transformers
from rows_for_tests import ids, outcomes, random_model, rotation, stock_logits
from transformers import GenerationConfig

from ropewalk.models import patched
from ropewalk.scheme import Scheme, Temperature
from ropewalk.scoring import Failure, decoding, fast, shared, split
from ropewalk.scoring.attention import one_each
from ropewalk.scoring.decoding import PromptRow, generate_shared
from ropewalk.scoring.generate import generate

SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
MODELS = {
    "llama": ("Llama", {}),
    "partial rotary": ("GPTNeoX", {"rotary_pct": 0.5}),
    "partial rotary, pairs": ("Glm4", {"partial_rotary_factor": 0.5}),
    "sliding window": ("Mistral", {"sliding_window": 16}),
    "some layers sliding": ("Gemma3", SLIDING),
    "keys cannot be held": ("Qwen3Next", {"layer_types": ["linear_attention", "full_attention"]}),
}
NEW = 12


@pytest.fixture(autouse=True)
def short_prompts_share(monkeypatch):
    monkeypatch.setattr(shared, "CPU_GRAIN", 4)


def letters(new) -> str:
    return "".join(chr(32 + token) for token in new)


def prompts(model, *, stop=(), lengths=(64, 64, 50, 37), new=(NEW, 5, NEW, 1)):
    """Prompts that leave a common stream at different places, two of them shorter, under three schemes."""
    stream = ids(64)
    built = []
    for seed, (length, fork) in enumerate(zip(lengths, (40, 52, 30, 64), strict=True), start=1):
        prompt = stream[:length].copy()
        prompt[fork:] = ids(64, seed)[fork:length]
        built.append(prompt)
    turns = [rotation(model), rotation(model, "yarn", factor=2), rotation(model, "linear", factor=4)]
    return [
        PromptRow(ids=prompt, scheme=Scheme(rotation=turn), new_tokens=count, stop=stop)
        for turn in turns
        for prompt, count in zip(built, new, strict=True)
    ]


def stock(model, row):
    """transformers' own greedy loop."""
    fed = torch.from_numpy(row.ids.astype(np.int64))[None]
    config = GenerationConfig(max_new_tokens=row.new_tokens, do_sample=False, eos_token_id=1, pad_token_id=0)
    with torch.no_grad(), patched(model, row.scheme):
        out = model.generate(fed, attention_mask=torch.ones_like(fed), generation_config=config)
    return out[0, len(row.ids) :]


def run(model, parts, rows, batch_tokens):
    return generate_shared(model, parts, rows, batch_tokens, letters)


@pytest.mark.parametrize("name", MODELS)
def test_new_tokens_are_those_of_transformers(name):
    stem, changes = MODELS[name]
    model = random_model(stem, **changes)
    rows = prompts(model)
    with fast(model, split(model), compiled=False) as parts:
        assert parts.held is (name != "keys cannot be held")
        found = outcomes(model, parts, rows, 1000, run=run)
    for row, new in zip(rows, found, strict=True):
        assert new.tolist() == stock(model, row).tolist()
    assert len({tuple(new.tolist()) for new in found}) > 3


def test_bfloat16_takes_the_first_token_that_is_no_tie():
    """Where the two best logits are further apart than rounding moves them; logits here are 4 wide, of 8 bits each."""
    noise = 4 * 8 * 2**-8
    model = random_model("Llama")
    model.load_state_dict({name: weight.bfloat16() for name, weight in model.state_dict().items()}, assign=True)
    rows = prompts(model)
    with fast(model, split(model), compiled=False) as parts:
        found = outcomes(model, parts, rows, 1000, run=run)
    clear = 0
    for row, new in zip(rows, found, strict=True):
        best = stock_logits(model, row.ids, row.scheme)[-1].topk(2)
        if best.values[0] - best.values[1] > noise:
            assert new[0] == best.indices[0]
            clear += 1
    assert clear >= len(rows) // 2


def test_beginnings_are_fed_once_and_rows_step_together():
    model = random_model("Llama", eos_token_id=None)
    model.generation_config.eos_token_id = None
    rows = prompts(model, lengths=(64, 64, 64, 64), new=(NEW, 5, 5, 1))
    fed = []
    with fast(model, split(model), compiled=False) as parts:

        def body(ids_BT, *more):
            fed.append(tuple(ids_BT.shape))
            return parts.body(ids_BT, *more)

        outcomes(model, dataclasses.replace(parts, body=body), rows, 1000, run=run)
    prefill = [shape for shape in fed if shape[1] > 1]
    assert len(prefill) == 4
    assert {shape[0] for shape in prefill} == {3}
    assert sum(shape[1] for shape in prefill) < 0.75 * 4 * 64
    steps = [shape[0] for shape in fed if shape[1] == 1]
    assert steps == [9] * 4 + [3] * (NEW - 5)  # three of 12 end at once, six after 5 tokens: the others move closer


@pytest.mark.parametrize("held", [True, False])
def test_stop_strings_and_ends_of_text(held):
    """A stop string may straddle tokens; what comes after the token that completes it is not said."""
    model = random_model("Llama")
    free = prompts(model)
    with fast(model, split(model), compiled=False) as parts:
        parts = dataclasses.replace(parts, held=held)
        whole = outcomes(model, parts, free, 1000, run=run)
        long = max(whole, key=len)
        stop = letters(long[3:5])
        found = outcomes(model, parts, prompts(model, stop=(stop, "never")), 1000, run=run)
        ending = int(long[6])
        model.generation_config.eos_token_id = [1, ending]
        ended = outcomes(model, parts, free, 1000, run=run)
    stopped = 0
    for before, new, cut in zip(whole, found, ended, strict=True):
        at = letters(before).find(stop)
        expected = before if at < 0 else before[: at + len(stop)]
        assert new.tolist() == expected.tolist()
        stopped += at >= 0
        place = before.tolist().index(ending) + 1 if ending in before else len(before)
        assert cut.tolist() == before[:place].tolist()
    assert stopped


def test_what_a_checkpoint_ships_beside_does_not_change_the_tokens():
    """Greedy is the likeliest token: penalties of `generation_config.json` are another protocol."""
    model = random_model("Llama")
    row = prompts(model)[0]
    plain = generate(model, row.ids, row.scheme.rotation, NEW)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.do_sample = True
    assert generate(model, row.ids, row.scheme.rotation, NEW).tolist() == plain.tolist() == stock_tokens(model, row)
    assert model.generation_config.repetition_penalty == 5.0


def stock_tokens(model, row):
    """The likeliest token after the likeliest token, with nothing cached."""
    text = torch.from_numpy(row.ids.astype(np.int64))[None]
    with torch.no_grad(), patched(model, row.scheme):
        for _ in range(row.new_tokens):
            text = torch.cat([text, model(input_ids=text).logits[:, -1:].argmax(-1)], dim=1)
    return text[0, len(row.ids) :].tolist()


@pytest.mark.parametrize("fits", [7, 3, 1, 0])
def test_out_of_memory_halves_what_goes_together(fits, monkeypatch):
    """Stores of more than so many rows do not fit; with 0 not even one does, and transformers' loop is left."""
    model = random_model("Llama")
    rows = prompts(model)
    steps = decoding.stepped
    tried = []

    def stepped(model, parts, rows, *more):
        tried.append(len(rows))
        if len(rows) > fits:
            raise torch.OutOfMemoryError("out of memory")
        return steps(model, parts, rows, *more)

    with fast(model, split(model), compiled=False) as parts:
        expected = outcomes(model, parts, rows, 1000, run=run)
        monkeypatch.setattr(decoding, "stepped", stepped)
        found = outcomes(model, parts, rows, 1000, run=run)
    assert [new.tolist() for new in found] == [new.tolist() for new in expected]
    assert tried[0] == 12
    assert len(tried) < 20


def test_a_row_that_cannot_be_continued_is_a_failure_alone(monkeypatch):
    model = random_model("Llama")
    rows = prompts(model)

    def refuses(model, ids, *more):
        if len(ids) == 37:
            raise torch.OutOfMemoryError("out of memory")
        return generate(model, ids, *more)

    monkeypatch.setattr(decoding, "generate", refuses)
    found = outcomes(model, split(model), rows, 1000, run=run)
    failed = [new for new in found if isinstance(new, Failure)]
    assert [new.status for new in failed] == ["out_of_memory"] * 3
    assert failed[0].reason == "generating after 37 tokens did not fit in memory"
    assert sum(isinstance(new, np.ndarray) for new in found) == 9


def test_one_query_sees_its_own_window_and_nothing_behind_its_place():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 4, 1, 8), torch.randn(3, 2, 10, 8), torch.randn(3, 2, 10, 6)
    places = torch.tensor([9, 4, 0])
    for window in (None, 3):
        found = one_each(query, key, value, places, None, window)
        for row, place in enumerate(places.tolist()):
            first = 0 if window is None else max(0, place + 1 - window)
            seen = slice(first, place + 1)
            for head in range(4):
                weights = (key[row, head // 2, seen] @ query[row, head, 0] / 8**0.5).softmax(-1)
                assert torch.allclose(found[row, head, 0], weights @ value[row, head // 2, seen], atol=1e-6)


def test_queries_sharpened_by_their_positions_decode_beside_each_other(monkeypatch):
    model = random_model("Llama")
    logn = Temperature(kind="logn", scale=4)
    rows = [
        dataclasses.replace(row, scheme=dataclasses.replace(row.scheme, temperature=logn if i % 8 < 4 else None))
        for i, row in enumerate(prompts(model))
    ]
    expected = [stock(model, row).tolist() for row in rows]
    assert expected != [stock(model, row).tolist() for row in prompts(model)]
    monkeypatch.setattr(decoding, "generate", lambda *_: pytest.fail("a row went alone"))
    with fast(model, split(model), compiled=False) as parts:
        found = {index: new.tolist() for batch in run(model, parts, rows, 256) for index, new in batch}
    assert [found[index] for index in range(len(rows))] == expected


def test_going_beyond_the_window_is_not_remarked_upon(capfd):
    model = random_model("Llama", max_position_embeddings=32)
    transformers.utils.logging.get_logger().warning_once.__func__.cache_clear()
    new = generate(model, ids(40), rotation(model), 3)
    assert len(new) == 3
    assert "friendly" not in capfd.readouterr().err
