"""A small slice of benchmarks/hostile.py, on one tree that nobody may touch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import hostile

QUICK = ("server answers", "rotation files", "safetensors", "names with terminal codes")


@pytest.mark.parametrize("kind", QUICK)
def test_every_input_is_taken_or_refused_in_one_sentence(kind: str) -> None:
    assert hostile.campaign(0.01, 1, [kind])["inputs"] >= 100


def test_a_break_would_be_noticed() -> None:
    def careless(value: int) -> None:
        raise KeyError(value)

    with pytest.raises(hostile.Broken, match="traceback KeyError"):
        hostile.Tally().count(careless, 1)
    with pytest.raises(hostile.Broken, match="terminal code"):
        hostile.require_plain("a\x1b[2J")
