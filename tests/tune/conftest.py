"""Tiny models of every architecture, and one experiment that is tuned in seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tune_experiments import experiment

import checkpoints
from ropewalk.experiment import schema

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> schema.Experiment:
    """A random model with a window of 192 tokens, and six texts."""
    folder = tmp_path_factory.mktemp("tune")
    checkpoints.save(folder / "model", checkpoints.llama(max_position_embeddings=192), checkpoints.tokenizer())
    for seed in range(6):
        (folder / f"{seed}.txt").write_text(checkpoints.prose(seed), encoding="utf-8")
    return experiment(folder)
