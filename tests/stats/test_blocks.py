"""Blocks, ranges, comparisons with a reference, and the edge to pandas."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from blocks_for_tests import COLUMNS, nll_block, passkey_block

from ropewalk.stats.blocks import Block
from ropewalk.stats.compare import compare_to
from ropewalk.stats.intervals import wilson
from ropewalk.stats.measured import blocks, measured
from ropewalk.stats.pooled import ratio_interval

NONE, YARN = [2.5, 2.9, 2.2, 3.1], [2.4, 2.85, 2.05, 3.06]


def test_values_and_intervals() -> None:
    block = nll_block({"none": NONE, "yarn": YARN})
    np.testing.assert_allclose(block.values_C, [np.mean(NONE), np.mean(YARN)], rtol=1e-12)
    assert block.interval("none") == ratio_interval(np.array(NONE) * 511, np.full(4, 511.0))
    found = passkey_block({"none": [1, 1, 0, 1]})
    assert found.interval("none") == wilson(3, 4)
    assert found.losses_C.tolist() == [-0.75]


def test_bits_per_byte_differ_and_perplexities_divide() -> None:
    ratio = nll_block({"none": NONE, "yarn": YARN}).paired("yarn", "none")
    bits = nll_block({"none": NONE, "yarn": YARN}, metric="bits_per_byte").paired("yarn", "none")
    assert bits.interval.value == pytest.approx(np.mean(YARN) - np.mean(NONE), rel=1e-12)
    assert ratio.interval.value == pytest.approx(math.exp(bits.interval.value), rel=1e-12)


def test_compare_to_corrects_over_its_own_comparisons() -> None:
    block = nll_block({"none": NONE, "yarn": YARN, "pi": [2.9, 3.0, 2.4, 3.3], "again": NONE})
    rows = {row.label: row for row in compare_to(block, "none")}
    assert list(rows) == ["yarn", "pi", "again"]
    raw = sorted(row.paired.p for row in rows.values())
    assert min(row.adjusted_p for row in rows.values()) == pytest.approx(3 * raw[0])
    assert rows["again"].paired.p == rows["again"].adjusted_p == 1.0
    with pytest.raises(ValueError, match="'truncate' is not among"):
        compare_to(block, "truncate")
    assert [row.adjusted_p for row in compare_to(nll_block({"none": [2.0], "pi": [3.0]}), "none")] == [None]


def test_a_block_is_of_one_length() -> None:
    """Lengths share documents and passkeys: side by side they would count as independent units and are not."""
    found = passkey_block({"a": [1, 0], "b": [1, 1]})
    with pytest.raises(ValueError, match="a block is of one length"):
        replace(found, lengths=(2048, 4096))


def test_a_block_cannot_hold_what_was_not_measured() -> None:
    with pytest.raises(ValueError, match="not finite"):
        nll_block({"a": [1.0, math.nan]})
    with pytest.raises(ValueError, match="need arrays"):
        Block(
            column=COLUMNS["tail"],
            lengths=(1,),
            labels=("a",),
            units=(),
            numerators_CN=np.ones((1, 2)),
            denominators_CN=np.ones((1, 2)),
        )


def _samples(rows: list[tuple[str, str, float, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["label", "unit", "numerator", "denominator"])
    return frame.assign(method=frame["label"], length=4096, metric="tail", depth=math.nan)


def test_samples_become_blocks_and_flaws_are_named() -> None:
    rows = [("none", "emma", 10.0, 5.0), ("none", "moby", 12.0, 5.0)]
    rows += [("half", "emma", 10.0, 5.0)]
    rows += [("nan", "emma", math.nan, 5.0), ("nan", "moby", 12.0, 5.0)]
    rows += [("inf", "moby", math.inf, 5.0), ("inf", "emma", 12.0, 5.0)]
    rows += [("no keys", "moby", 0.0, 0.0), ("no keys", "emma", 0.0, 0.0)]
    rows += [("few", "moby", 1.0, 1.0), ("few", "emma", 1.0, 1.0)]
    rows += [("swapped", "moby", 11.0, 5.0), ("swapped", "emma", 9.0, 5.0)]
    got = blocks(_samples(rows), COLUMNS, {("tail", 4096, "few"): "too_few_key_tokens: 2 of 30"})[("tail", 4096)]
    assert got.labels == ("none", "swapped")
    assert got.units == ("emma", "moby")
    assert got.numerators_CN.tolist() == [[10.0, 12.0], [9.0, 11.0]]
    assert got.left_out == {
        "half": "1 of 2 units measured; 'moby' is missing",
        "nan": "'emma' has nan over 5.0 scored",
        "inf": "'moby' has inf over 5.0 scored",
        "no keys": "nothing was scored",
        "few": "too_few_key_tokens: 2 of 30",
    }
    assert blocks(_samples([]), COLUMNS) == {}


def test_a_block_of_windows_in_which_nobody_has_enough_key_tokens() -> None:
    windows = [(f"{name}#{i}", name) for name in ("emma", "moby") for i in (1, 2)]
    samples = _samples([("none", unit, 1.0, 1.0) for unit, _ in windows]).assign(document=[d for _, d in windows])
    found = blocks(samples, COLUMNS, {("tail", 4096, "none"): "too_few_key_tokens: 4 of 30"})[("tail", 4096)]
    assert (found.labels, found.units, found.between) == ((), ("emma", "moby"), None)
    assert found.left_out == {"none": "too_few_key_tokens: 4 of 30"}


def test_frames_become_one_value() -> None:
    line = {"method": "none", "asked": {}, "label": "none", "length": 4096, "metric": "tail", "value": None}
    line |= {
        "ci_low": math.nan,
        "ci_high": None,
        "n": math.nan,
        "status": "error",
        "reason": "boom",
        "fingerprint": None,
    }
    run = measured(
        pd.DataFrame([line]), _samples([("none", "emma", 10.0, 5.0)]), {"geometry": {"window": 2048}}, COLUMNS
    )
    assert math.isnan(run.rows[0].value)
    assert (run.rows[0].n, run.rows[0].fingerprint) == (0, "")
    assert run.blocks[("tail", 4096)].left_out == {"none": "error: boom"}
    assert (run.window, run.lengths, run.configurations) == (2048, (4096,), {"none": ["none"]})
