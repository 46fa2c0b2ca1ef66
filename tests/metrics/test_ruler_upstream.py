"""Our scores of RULER's answers are those of its own evaluation script on the same predictions.

ruler_scores.json holds them, and says where from.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ropewalk.tasks.ruler_files import judge

GOLDEN = json.loads((Path(__file__).parent / "ruler_scores.json").read_text(encoding="utf-8"))["tasks"]
PER_CENT_DIGITS = 2
"""Upstream rounds to so many."""


@pytest.mark.parametrize("task", GOLDEN)
def test_scores_are_upstreams(task):
    samples = GOLDEN[task]["samples"]
    scores = [100 * judge(task, each["outputs"], each["pred"]) for each in samples]
    assert [round(score, PER_CENT_DIGITS) for score in scores] == [each["score"] for each in samples]
    assert round(sum(scores) / len(scores), PER_CENT_DIGITS) == GOLDEN[task]["score"]
    assert len({each["score"] for each in samples}) > 1
