"""One search with two seeds over a random small model, made once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from search_toys import GENERATION, SEED

import checkpoints
import ropewalk as rw
from ropewalk.searching.run import Found

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))


@pytest.fixture(scope="session")
def two_arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A random model with a window of 128 tokens, and six texts."""
    folder = tmp_path_factory.mktemp("search-of-two")
    checkpoints.save(folder / "model", checkpoints.llama(), checkpoints.tokenizer())
    for seed in range(6):
        (folder / f"{seed}.txt").write_text(checkpoints.prose(seed), encoding="utf-8")
    return {
        "model": str(folder / "model"),
        "dtype": "float32",
        "length": 256,
        "lengths": [64],
        "methods": {"yarn": {"factor": 2}},
        "documents": {"files": [str(folder / "*.txt")], "count": 6},
        "section": {"knots": 2},
        "evaluations": 1 + 3 * GENERATION,
        "repeats": 2,
        "seed": SEED,
    }


@pytest.fixture(scope="session")
def two(two_arguments: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Found:
    return rw.search(out=tmp_path_factory.mktemp("search"), **two_arguments)
