"""What context extension is known to do, on a real trained model: the built-in strand, window 256."""

from __future__ import annotations

import math

import numpy as np
import pytest

import ropewalk as rw
from ropewalk.models.placement import cpu_has_bfloat16

WINDOW = 256
ASKED = {
    "methods": {"linear": {"factor": 4}, "ntk_by_parts": {"factor": 4}, "yarn": {"factor": [4, 8]}},
    "lengths": [WINDOW, 4 * WINDOW],
    "documents": {"corpus": "builtin", "count": 3},
    "metrics": {"perplexity": {}, "longppl": {"spans": "builtin"}, "passkey": {"trials": 10}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return rw.sweep("strand", out=tmp_path_factory.mktemp("laws") / "run", **ASKED)


@pytest.fixture(scope="module")
def value(run):
    rows = {(row["label"], row["length"], row["metric"]): row["value"] for row in run.labelled_rows()}
    return lambda label, length, metric="perplexity": rows[label, length, metric]


def test_without_scaling_perplexity_explodes_past_the_window(value):
    assert value("none", 4 * WINDOW) > 2 * value("none", WINDOW)
    assert value("none", 4 * WINDOW, "tail") > 3 * value("none", WINDOW, "tail")


@pytest.mark.parametrize("factor", [4, 8])
def test_yarn_stays_flat(value, factor):
    assert value(f"yarn factor={factor}", 4 * WINDOW) < 1.15 * value(f"yarn factor={factor}", WINDOW)
    assert value(f"yarn factor={factor}", 4 * WINDOW) < 0.7 * value("none", 4 * WINDOW)


def test_linear_without_finetuning_is_worse_than_ntk_by_parts(value):
    for length in ASKED["lengths"]:
        assert value("linear factor=4", length) > 1.5 * value("ntk_by_parts factor=4", length)


def test_scaling_costs_something_at_short_lengths(value):
    assert value("yarn factor=4", WINDOW) > value("none", WINDOW)


def test_passkey_survives_at_four_windows_under_the_best_method_and_not_without(value):
    assert value("none", WINDOW, "passkey") == 1.0
    assert value("none", 4 * WINDOW, "passkey") == 0.0
    assert max(value(f"yarn factor={f}", 4 * WINDOW, "passkey") for f in (4, 8)) >= 0.7


def test_the_truncate_baseline_is_there_beyond_the_window_alone(run, value):
    lengths = {row["length"] for row in run.labelled_rows() if row["method"] == "truncate"}
    assert lengths == {4 * WINDOW}
    assert value("truncate", 4 * WINDOW, "tail") < value("none", 4 * WINDOW, "tail")


def test_few_key_tokens_are_a_finding_and_no_number(run):
    rows = [row for row in run.labelled_rows() if row["metric"] == "longppl"]
    for row in rows:
        assert (row["value"] is None) == (row["status"] == "too_few_key_tokens")
        assert row["value"] is not None or "key tokens" in row["reason"]


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_the_exact_twin_gives_the_same_numbers(tmp_path, dtype):
    """Float32, eager attention, one row at a time and prompts unshared: what every fast path is held against.

    float32 sums in another order: a few 1e-6 nats per token. bfloat16 (auto, on processors that have it) rounds every
    activation to 8 bits: 0.027 nats per token in stock transformers too, so 0.005 over the 128 tokens of two tails.
    """
    rel_tol = 2e-2 if dtype == "auto" and cpu_has_bfloat16() else 2e-5
    small = (
        ASKED | {"dtype": dtype} | {"methods": {"yarn": {"factor": 4}}, "documents": {"corpus": "builtin", "count": 2}}
    )
    small["metrics"] = ASKED["metrics"] | {"passkey": {"trials": 4}}
    runs = [rw.sweep("strand", out=tmp_path / str(exact), exact=exact, **small) for exact in (False, True)]
    quick, slow = ({(r["label"], r["length"], r["metric"]): r for r in run.labelled_rows()} for run in runs)
    assert quick.keys() == slow.keys()
    for key, row in quick.items():
        twin = slow[key]
        assert (row["status"], row["n"], row["fingerprint"]) == (twin["status"], twin["n"], twin["fingerprint"])
        if row["metric"] == "passkey":
            assert row["value"] == twin["value"], key
        elif row["value"] is not None:
            assert math.isclose(row["value"], twin["value"], rel_tol=rel_tol), key


def test_a_thousandth_more_of_yarns_factor_is_noticed(run, tmp_path):
    """The twin of the twin test: numbers that close would not agree by accident."""
    other = rw.sweep(
        "strand",
        methods={"yarn": {"factor": 4.004}},
        lengths=[4 * WINDOW],
        documents=ASKED["documents"],
        metrics={"perplexity": {}},
        out=tmp_path / "other",
    )
    here = run.samples().query("label == 'yarn factor=4' and length == 1024 and metric == 'perplexity'")
    there = other.samples().query("label == 'yarn factor=4.004' and metric == 'perplexity'")
    differences = np.abs(here.numerator.to_numpy() / there.numerator.to_numpy() - 1)
    assert differences.max() > 2e-5
