"""LongPPL on the same tokens as the `longppl` package (the paper's own): same key tokens, same number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from longppl.longppl import cal_overlap, compute_longppl, find_key_token
from units_for_tests import cell_of, sample_of

import checkpoints
from ropewalk.corpus import key_token_mask, tokenize
from ropewalk.corpus.documents import local_document
from ropewalk.execution import keys
from ropewalk.experiment.cells import measure
from ropewalk.methods import make_params, resolve
from ropewalk.metrics import perplexity
from ropewalk.metrics.key_tokens import KeyRule, key_tokens, short_readings
from ropewalk.metrics.longppl import LONGPPL, LongPPL, without_bos
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow, score, split

RULE = KeyRule(trunc_len=64, stride=24, alpha=0.05, beta=-7.0)
TEXT = checkpoints.prose(77, words=220)


def document():
    return local_document(TEXT, id="text", title="text", kind="file", source="memory")


@pytest.fixture(scope="module")
def wide(loaded):
    """The tiny model with a window that holds the whole text, as the reference knows no window."""
    geometry = dataclasses.replace(loaded.geometry, max_position_embeddings=4096)
    return dataclasses.replace(loaded, geometry=geometry)


@pytest.fixture(scope="module")
def other(wide):
    """An evaluator with other weights and another tokenizer."""
    return dataclasses.replace(wide, model=checkpoints.llama(seed=5), tokenizer=checkpoints.tokenizer(vocabulary=320))


def found_keys(evaluator, rule=RULE):
    tokens = tokenize(evaluator.tokenizer, document())
    return keys.find(evaluator, split(evaluator.model), tokens, rule, 512, len(TEXT))


def our_longppl(model, evaluator, rule=RULE, reading=perplexity.whole):
    spans, _ = found_keys(evaluator, rule)
    tokens = tokenize(model.tokenizer, document())
    length = len(tokens)
    mask = np.append(False, key_token_mask(tokens, spans))
    rotation = resolve(model.geometry, "none", make_params("none", {}), length).rotation
    (read,) = reading(length)
    row = NllRow(ids=tokens.ids[read.start :], scheme=Scheme(rotation=rotation))
    ((_, nll),) = next(score(model.model, split(model.model), [row], length))
    asked = LongPPL(evaluator="self", min_key_tokens=1)
    cell = cell_of("longppl", LONGPPL, (read,), length=length, options=asked)
    return measure(cell, [sample_of(cell, nll, key=mask)]), np.flatnonzero(mask)


def reference(model, evaluator, rule=RULE):
    """The package's result, and the tokens (of the evaluated model) that it calls key."""
    setting = {"trunc_len": rule.trunc_len, "sliding_window": rule.stride, "alpha": rule.alpha, "beta": rule.beta}
    found = compute_longppl(
        TEXT,
        model.model,
        evaluator.model,
        tokenizer=model.tokenizer,
        evaluator_tokenizer=evaluator.tokenizer,
        **setting,
    )
    spans = find_key_token(TEXT, evaluator.model, evaluator.tokenizer, **setting)
    offsets = model.tokenizer(TEXT, return_offsets_mapping=True, return_tensors="pt")["offset_mapping"][0]
    return found, np.array(cal_overlap(offsets, spans)) + 1, [tuple(span.tolist()) for span in spans]


@pytest.mark.parametrize("pair", ["self", "another evaluator", "another model"])
def test_same_key_tokens_and_same_longppl(pair, wide, other):
    model, evaluator = {
        "self": (wide, wide),
        "another evaluator": (wide, other),
        "another model": (other, wide),
    }[pair]
    expected, expected_keys, expected_spans = reference(model, evaluator)
    found, ours = our_longppl(model, evaluator)
    assert ours.tolist() == expected_keys.tolist()
    assert 10 < len(ours) == expected["n_key_token"] < len(tokenize(model.tokenizer, document())) / 2
    assert found.value == pytest.approx(float(expected["longppl"]), rel=1e-4)
    if pair == "self":
        assert list(found_keys(evaluator)[0].spans) == expected_spans


def test_with_a_bos_the_package_finds_keys_behind_it_and_scores_without_it(wide, words_bos):
    """`reading: package` is the package's number; without it every metric, LongPPL too, is fed the BOS."""
    model = dataclasses.replace(wide, tokenizer=words_bos)
    assert tokenize(words_bos, document()).bos
    expected, _, _ = reference(model, model)
    packaged, ours = our_longppl(model, model, reading=without_bos)
    assert packaged.value == pytest.approx(float(expected["longppl"]), rel=1e-4)
    assert len(ours) == expected["n_key_token"]
    assert our_longppl(model, model)[0].value != pytest.approx(packaged.value, rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [{"alpha": 0.3}, {"beta": -6.0}, {"trunc_len": 65}, {"stride": 25}],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_matters_and_still_agrees(change, wide):
    rule = dataclasses.replace(RULE, **change)
    _, ours = our_longppl(wide, wide, rule)
    assert ours.tolist() == reference(wide, wide, rule)[1].tolist()
    assert ours.tolist() != our_longppl(wide, wide)[1].tolist()


def test_the_first_short_context_and_all_beyond_the_window_hold_no_key_token(loaded, wide):
    tokens = tokenize(loaded.tokenizer, document())
    inside = [end for _, end in found_keys(loaded)[0].spans]
    assert max(inside) <= tokens.ends[checkpoints.WINDOW - 1] < max(end for _, end in found_keys(wide)[0].spans)
    assert min(start for start, _ in found_keys(wide)[0].spans) >= tokens.starts[RULE.trunc_len]


def test_short_contexts_see_trunc_len_to_trunc_len_plus_stride_tokens():
    readings = short_readings(1000, RULE)
    assert [token for r in readings for token in range(r.low, r.high)] == list(range(64, 1000))
    seen = {token - r.start for r in readings for token in range(r.low, r.high)}
    assert (min(seen), max(seen)) == (RULE.trunc_len, RULE.trunc_len + RULE.stride - 1)
    assert not any(r.bos for r in readings)
    assert short_readings(64, RULE) == ()


def test_thresholds_are_strict_and_missing_short_contexts_are_never_key():
    rule = KeyRule(trunc_len=2, stride=1, alpha=1.0, beta=-2.0)
    long = np.array([0.5, 0.5, 0.5, 2.0, 1.9], np.float32)
    short = np.array([np.nan, 1.5, 1.6, 9.0, 9.0], np.float32)
    assert key_tokens(long, short, rule).tolist() == [False, False, False, True, False, True]


def test_losses_behind_the_key_tokens_are_those_of_the_stock_model(wide):
    _, arrays = found_keys(wide)
    ids = torch.from_numpy(tokenize(wide.tokenizer, document()).ids.astype(np.int64))
    with torch.no_grad():
        whole = torch.nn.functional.cross_entropy(wide.model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
        window = ids[24 : 24 + 64 + 24]  # the second short context
        short = torch.nn.functional.cross_entropy(wide.model(window[None]).logits[0, :-1], window[1:], reduction="none")
    assert np.abs(arrays["nll_long"] - whole.numpy()).max() < 2e-5
    assert np.abs(arrays["nll_short"][24 + 63 : 24 + 87] - short.numpy()[63:87]).max() < 2e-5
    assert np.isnan(arrays["nll_short"][:63]).all()
    assert not np.isnan(arrays["nll_short"][63:]).any()
