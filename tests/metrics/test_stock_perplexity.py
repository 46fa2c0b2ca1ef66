"""Perplexity and bits per byte are what stock transformers and a pocket calculator say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ropewalk.corpus import load_documents, tokenize
from ropewalk.experiment.cells import DocumentFacts, measure, sample
from ropewalk.experiment.plan import Cell
from ropewalk.methods import make_params, resolve
from ropewalk.metrics import perplexity
from ropewalk.metrics.readings import Reading
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow, score, split

LENGTH = 120


def cell(metric, readings) -> Cell:
    return Cell(
        label="none",
        method="none",
        asked={},
        resolved={},
        length=LENGTH,
        metric=metric,
        fingerprint="0" * 16,
        readings=readings,
    )


@pytest.fixture(scope="module")
def scored(loaded, texts):
    """Two documents under the shipped rotation: tokens and losses."""
    rotation = resolve(loaded.geometry, "none", make_params("none", {}), LENGTH).rotation
    documents = load_documents({"files": [str(texts / "*.txt")], "count": 2})
    tokens = [tokenize(loaded.tokenizer, document) for document in documents]
    rows = [NllRow(ids=each.ids[:LENGTH], scheme=Scheme(rotation=rotation)) for each in tokens]
    found = dict(pair for batch in score(loaded.model, split(loaded.model), rows, 10 * LENGTH) for pair in batch)
    return tokens, [found[0], found[1]]


def value(metric, readings, scored):
    tokens, losses = scored
    facts = [DocumentFacts(id=t.document.id, utf8_bytes=t.utf8_bytes(), key=None) for t in tokens]
    samples = [
        sample(cell(metric, readings), fact, lambda _, nll=nll: nll) for fact, nll in zip(facts, losses, strict=True)
    ]
    return measure(cell(metric, readings), samples, 1)


def test_perplexity_is_exp_of_the_stock_loss(loaded, scored):
    tokens, _ = scored
    ids = [torch.from_numpy(each.ids[:LENGTH].astype(np.int64))[None] for each in tokens]
    with torch.no_grad():
        stock = np.mean([loaded.model(input_ids=each, labels=each).loss.item() for each in ids])
    found = value("perplexity", perplexity.whole(LENGTH), scored)
    assert found.value == pytest.approx(math.exp(stock), rel=1e-5)  # 1e-5 nats: float32 sums in another order
    assert found.n == 2
    assert found.ci_low < found.value < found.ci_high
    shifted = value("perplexity", (Reading(start=0, low=2, high=LENGTH),), scored)
    assert abs(math.log(shifted.value) - stock) > 1e-3  # one token more or less is noticed


def test_tail_is_the_mean_of_the_last_quarter(scored):
    _, losses = scored
    by_hand = np.mean([nll[-LENGTH // 4 :].astype(float).mean() for nll in losses])
    assert value("tail", perplexity.tail(LENGTH), scored).value == pytest.approx(math.exp(by_hand), rel=1e-12)


def test_bits_per_byte_by_hand(scored):
    tokens, losses = scored
    bits = sum(float(nll.astype(float).sum()) for nll in losses) / math.log(2)
    covered = sum(len(t.document.text[int(t.ends[0]) : int(t.ends[LENGTH - 1])].encode()) for t in tokens)
    found = value("bits_per_byte", perplexity.whole(LENGTH), scored)
    assert found.value == pytest.approx(bits / covered, rel=1e-12)
    assert covered > sum(t.ends[LENGTH - 1] - t.ends[0] for t in tokens)  # there are characters of two bytes


def test_documents_weigh_by_their_tokens():
    facts = DocumentFacts(id="a", utf8_bytes=None, key=None)
    readings = (Reading(start=0, low=1, high=4),)
    one = sample(cell("perplexity", readings), facts, lambda _: np.array([1, 2, 3], np.float32))
    assert (one.numerator, one.denominator) == (6.0, 3.0)
    other = sample(cell("perplexity", (Reading(start=0, low=1, high=2),)), facts, lambda _: np.array([5], np.float32))
    assert measure(cell("perplexity", readings), [one, other], 1).value == pytest.approx(math.exp(11 / 4), rel=1e-12)


def test_a_loss_beyond_floats_is_an_error_and_an_interval_beyond_floats_is_left_out():
    facts = DocumentFacts(id="a", utf8_bytes=None, key=None)
    readings = (Reading(start=0, low=1, high=2),)

    def of(*losses):
        samples = [
            sample(cell("perplexity", readings), facts, lambda _, nll=nll: np.array([nll], np.float32))
            for nll in losses
        ]
        return measure(cell("perplexity", readings), samples, 1)

    assert of(800, 900).status == "error"
    assert of(800, 900).reason == "the mean loss is too large for a number"
    wide = of(1, 200)
    assert wide.status == "ok"
    assert math.isfinite(wide.value)
    assert (wide.ci_low, wide.ci_high) == (None, None)
