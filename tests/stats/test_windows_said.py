"""What several windows of each document gained, and how many documents and windows a precision takes."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blocks_for_tests import nll_block
from handmade_runs import run_of

from ropewalk.errors import ExperimentError
from ropewalk.report.recommend import recommend
from ropewalk.report.settling import precise, settling
from ropewalk.stats.clusters import between, clustered
from ropewalk.stats.findings import findings
from ropewalk.stats.findings.stopping import said_of, stopped
from ropewalk.stats.measured import Measured

SEED, DOCUMENTS, WINDOWS = 5, 8, 4


def windowed(own: float, apart: float = 0.01) -> Measured:
    """Two configurations; `own` nats between documents, .05 between windows of one."""
    rng = np.random.default_rng(SEED)
    base = 3 + rng.standard_normal((DOCUMENTS, WINDOWS))
    noise = own * rng.standard_normal((DOCUMENTS, 1)) + 0.05 * rng.standard_normal((DOCUMENTS, WINDOWS))
    worse = base + apart + noise - noise.mean()
    labels = {"yarn factor=2": base.ravel().tolist(), "yarn factor=4": worse.ravel().tolist()}
    block = nll_block(labels, length=4096)
    found = clustered(block, [f"text {d}" for d in range(DOCUMENTS) for _ in range(WINDOWS)])
    assert found.between == pytest.approx(between(worse - base).share.value, rel=1e-9)
    tail = {(label, 4096): [*values] for label, values in labels.items()}
    run = run_of(tail=tail, experiment={"documents": {"corpus": "builtin"}})
    return replace(run, blocks={("tail", 4096): found})


def said(run: Measured) -> list[str]:
    return [finding.sentence for finding in findings(run) if finding.kind == "windows"]


def test_the_report_says_what_windows_gained() -> None:
    run = windowed(0.0)
    share = run.blocks["tail", 4096].between
    width = math.sqrt(share + (1 - share) / WINDOWS)
    assert said(run) == [
        f"At 4,096, 4 windows of each of 8 documents: {100 * share:.0f} % of the variance of a difference lies between "
        f"documents, so each is worth {1 / width**2:.1f} of one window, and intervals are {width:.2f} times as wide as "
        "those of one."
    ]
    assert 0.5 <= width < 0.8
    assert "each is worth 1.0 of one window, and intervals are 1.00 times" in said(windowed(1.5))[0]
    assert said(run_of(tail={("a", 64): [1.0, 2.0], ("b", 64): [1.1, 2.0]})) == []


def test_what_would_settle_it_reads_more_windows_only_where_they_help() -> None:
    for own, apart, settled in ((0.0, 0.018, True), (0.5, 0.018, False)):
        run = windowed(own, apart)
        found = settling(run, recommend(run, 4096), Path("a"))
        assert any(" windows of each of 8 documents" in line for line in found)
        assert found[-1].startswith("ropewalk run a --until decided") == settled
        assert any("However many windows are read, 17 documents would not do." in line for line in found) != settled


def test_documents_and_windows_of_a_precision() -> None:
    found = precise(windowed(0.0), 1.0)
    needed = list(found["documents"].values())
    assert list(found["documents"]) == ["1", "2", "4", "8"]
    assert needed[0] > 1.5 * needed[1] > 1.5 * 1.3 * needed[2]
    assert f"{needed[3]} documents of 8 windows" in found["said"]
    wider = precise(windowed(0.0), 2.0)["documents"]
    assert all(wider[windows] < each for windows, each in found["documents"].items())
    one = precise(run_of(tail={("a", 64): [1.0, 2.0, 3.0], ("b", 64): [1.1, 2.0, 2.9]}), 1.0)
    assert list(one["documents"]) == ["1"]
    assert one["said"][-1].startswith("what more windows are worth is known once")
    with pytest.raises(ExperimentError, match=r"^--precision 1%: takes a perplexity .* measure some first\.$"):
        precise(run_of(tail={("a", 64): [1.0], ("b", 64): [1.1]}), 1.0)


def test_a_run_says_what_it_assumes_and_which_precision_it_did_not_give() -> None:
    look = {"units": 8, "windows": 1, "share": 0.5}
    decided = {"why": "everything read", "of": "documents", "precision": 0.5, "look": look, "first": 4}
    decided |= {"running": ["a", "b"], "left": {"c": "c left"}}
    assert "do not give the 0.5 % that were asked for; ask for less" in said_of(decided)
    assert "do not give" not in said_of(decided | {"why": "precision"})
    for why, because in (
        ("decided", "one configuration is left"),
        ("precision", "every interval is as precise as was asked for"),
        ("budget", "the budget is spent"),
        ("everything read", "everything is read"),
    ):
        assert re.search(rf"stopped because {because}[^\w~]", said_of(decided | {"why": why}))
    run = run_of(tail={("a", 64): [1.0, 2.0], ("b", 64): [1.1, 2.0]})
    (found,) = stopped(replace(run, meta={**run.meta, "decided": decided}))
    assert "at most 5 % of such runs, failures on texts unlike these aside" in found.sentence
    assert "after 4, which hold no failure on one in ten in 66 % of runs" in found.sentence
