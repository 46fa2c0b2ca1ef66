"""A sweep end to end: what it stores is what stock transformers says, and is read back as documented."""

from __future__ import annotations

import json
import math
import sqlite3

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

import checkpoints
from ropewalk.corpus import load_documents, tokenize
from ropewalk.experiment.results import Run
from ropewalk.metrics import perplexity

STOCK = {
    "none": {"rope_type": "default", "rope_theta": 10000.0},
    "yarn factor=2": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 2.0,
        "original_max_position_embeddings": checkpoints.WINDOW,
    },
    "linear factor=2": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
}
KEYS = [
    "method",
    "params",
    "length",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "status",
    "reason",
    "fingerprint",
]


@pytest.fixture(scope="module")
def run(finished) -> Run:
    return Run.open(finished)


@pytest.fixture(scope="module")
def tokens(texts, words):
    return [tokenize(words, document) for document in load_documents({"files": [str(texts / "*.txt")]})]


def stock_losses(label, ids) -> np.ndarray:
    """Stock transformers, the scaling in its configuration, nothing of ours."""
    model = checkpoints.llama(rope_parameters=STOCK[label])
    fed = torch.from_numpy(ids.astype(np.int64))
    with torch.no_grad():
        logits = model(fed[None], use_cache=False).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, fed[1:], reduction="none").double().numpy()


def value(run, label, length, metric) -> float:
    frame = run.frame()
    (found,) = frame[(frame.label == label) & (frame.length == length) & (frame.metric == metric)].value
    return found


@pytest.mark.parametrize("label", STOCK)
@pytest.mark.parametrize("length", [192, 256])
def test_losses_are_those_of_stock_transformers(run, tokens, label, length):
    losses = [stock_losses(label, each.ids[:length]) for each in tokens]
    noise = 1e-5  # nats per token
    assert math.log(value(run, label, length, "perplexity")) == pytest.approx(np.mean(losses), abs=noise)
    last = [nll[-perplexity.tail_tokens(length) :] for nll in losses]
    assert math.log(value(run, label, length, "tail")) == pytest.approx(np.mean(last), abs=noise)
    covered = sum(each.utf8_bytes()[1:length].sum() for each in tokens)
    assert value(run, label, length, "bits_per_byte") == pytest.approx(np.sum(losses) / math.log(2) / covered, rel=1e-5)


@pytest.mark.parametrize("length", [192, 256])
def test_the_baseline_is_the_shipped_model_fed_half_a_window(run, tokens, length):
    tail, fed, block = length // 4, checkpoints.WINDOW // 2, checkpoints.WINDOW // 4
    losses = []
    for each in tokens:
        for low in range(length - tail, length, block):
            high = min(low + block, length)
            losses += stock_losses("none", each.ids[high - fed : high])[-(high - low) :].tolist()
    assert len(losses) == 3 * tail
    assert math.log(value(run, "truncate", length, "tail")) == pytest.approx(np.mean(losses), abs=1e-5)


def test_the_curve_is_the_mean_loss_by_position(run, tokens):
    curve = run.curve()
    assert curve.columns.tolist() == ["label", "length", "position_low", "position_high", "nll", "n"]
    assert set(curve.label) == set(STOCK)
    losses = np.mean([stock_losses("yarn factor=2", each.ids[:256]) for each in tokens], axis=0)
    mine = curve[curve.label == "yarn factor=2"]
    assert set(mine.length) == {256}
    assert set(mine.n) == {3}
    for row in mine.itertuples():
        assert row.nll == pytest.approx(losses[row.position_low - 1 : row.position_high - 1].mean(), abs=1e-5)
    assert (mine.position_low.iloc[0], mine.position_high.iloc[-1]) == (1, 256)


def test_samples_add_up_to_the_values(run):
    frame, samples = run.frame(), run.samples()
    assert samples.columns.tolist() == [
        "label",
        "method",
        "length",
        "metric",
        "unit",
        "numerator",
        "denominator",
        "depth",
        "group",
        "document",
    ]
    sums = samples.groupby(["label", "length", "metric"])[["numerator", "denominator"]].sum()
    assert len(sums) == len(frame) == 32
    for row in frame.itertuples():
        total = sums.loc[(row.label, row.length, row.metric)]
        mean = total.numerator / total.denominator
        expected = mean if row.metric in ("passkey", "bits_per_byte") else math.exp(mean)
        assert row.value == pytest.approx(expected, rel=1e-12)
    passkeys = samples[samples.metric == "passkey"]
    assert passkeys.depth.nunique() == 6  # three places at each of two lengths, as they are in the prompt
    assert set(passkeys.unit) == {"0", "1", "2"}
    assert samples[samples.metric != "passkey"].depth.isna().all()


def test_longppl_counts_key_tokens_inside_the_window(run, tokens):
    samples = run.samples()
    mine = samples[(samples.label == "none") & (samples.metric == "longppl")]
    assert mine.denominator.min() >= 5
    by_length = mine.groupby("length").denominator.sum()
    assert by_length[192] == by_length[256]  # past its own window the evaluator names no key tokens
    spans = run.meta["key_spans"]
    limits = [int(each.ends[checkpoints.WINDOW - 1]) for each in tokens]
    assert all(found["spans"][-1][1] <= limit for found, limit in zip(spans, limits, strict=True))


def test_results_have_the_documented_keys_and_json_values(run):
    rows = run.rows()
    assert len(rows) == 32
    assert all(list(row) == KEYS for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert {row["status"] for row in rows} == {"ok"}
    yarn = next(row for row in rows if row["method"] == "yarn")
    assert yarn["params"] == {"factor": 2.0}
    assert [{**row, "label": other["label"]} for row, other in zip(rows, run.labelled_rows(), strict=True)] == (
        run.labelled_rows()
    )


def test_the_frame_has_asked_and_resolved_parameters(swept):
    frame = swept(methods={"yarn": {"factor": "auto"}}, metrics={"perplexity": {}}).frame()
    mine = frame[(frame.method == "yarn") & (frame.metric == "tail")]
    assert mine.asked.tolist() == [{"factor": "auto"}] * 2
    assert mine.params.tolist() == [{"factor": 1.5}, {"factor": 2.0}]
    assert frame.columns.tolist() == [
        "label",
        "method",
        "asked",
        "params",
        "length",
        "metric",
        "fingerprint",
        "value",
        "ci_low",
        "ci_high",
        "n",
        "status",
        "reason",
    ]
    assert frame.value.dtype == "float64"


def test_the_record_says_where_everything_comes_from(run, base_experiment, texts):
    meta = run.meta
    assert meta["experiment"]["methods"] == base_experiment["methods"]
    assert meta["experiment"]["seed"] == 3
    assert meta["source"] == "as written"
    assert meta["model"]["id"] == base_experiment["model"]
    assert len(meta["model"]["weights_sha256"]) == 64
    assert (meta["device"], meta["dtype"]) == ("cpu", "float32")
    assert meta["geometry"]["window"] == 128
    assert meta["geometry"]["window_source"] == "max_position_embeddings"
    assert [document["id"] for document in meta["documents"]] == [str(texts / f"text-{i}.txt") for i in range(3)]
    assert all(document["tokens"] == 256 for document in meta["documents"])
    assert {"python", "torch", "transformers", "ropewalk"} <= meta["versions"].keys()
    assert meta["wall_s"] > 0
    assert meta["duplicates"] == []
    assert {one["status"] for one in meta["passes"]} == {"ok"}
    assert len(meta["passes"]) == 3 * 3 + 3 * 4  # three rotations, and four blocks of the baseline
    assert meta["evaluator"]["model"] == meta["model"]
    json.dumps(meta, allow_nan=False)


def test_passkey_outcomes_are_those_of_the_prompts(run, tiny):
    words = AutoTokenizer.from_pretrained(tiny)
    with sqlite3.connect(run.directory / "run.sqlite") as db:
        rows = db.execute(
            "SELECT facts, answer, predicted, nll, text FROM answers JOIN prompts USING (request)"
        ).fetchall()
    db.close()
    assert len(rows) == 3 * 2 * 3
    for facts, answer, predicted, nll, text in rows:
        key = json.loads(facts)["key"]
        assert words.decode(json.loads(answer)) == f" {key}"
        assert len(json.loads(predicted)) == len(json.loads(answer)) + 1 == len(json.loads(nll)) + 1
        assert text == words.decode(json.loads(answer) + json.loads(predicted)[-1:])[len(key) + 1 :]


def test_a_duplicate_is_measured_once_and_reported_for_each(swept):
    run = swept(methods={"linear": {"factor": [1, 2]}}, metrics={"perplexity": {}, "passkey": {"trials": 2}})
    assert len(run.meta["passes"]) == 2 * 3 + 3 * 4
    assert run.meta["duplicates"][0] == ["none @ 192 perplexity", "linear factor=1 @ 192 perplexity"]
    frame = run.frame()
    none, same = (frame[frame.label == label] for label in ("none", "linear factor=1"))
    columns = ["length", "metric", "value", "ci_low", "ci_high", "n", "fingerprint"]
    pd.testing.assert_frame_equal(none[columns].reset_index(drop=True), same[columns].reset_index(drop=True))


def test_exact_and_fast_agree(run, swept):
    slow = swept(exact=True)
    assert (slow.meta["attention"], run.meta["attention"]) == ("eager", "ropewalk")
    for one, other in zip(run.rows(), slow.rows(), strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=2e-5), one
        assert [one[key] for key in ("method", "length", "metric", "n")] == [
            other[key] for key in ("method", "length", "metric", "n")
        ]
