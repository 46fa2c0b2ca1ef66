"""Tiny models of every architecture, and one experiment that is tuned in seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from descents import LENGTH, WINDOW, rotation_of
from tune_experiments import experiment

import checkpoints
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import encoder
from ropewalk.metrics.passkey import METRIC
from ropewalk.scoring import split
from ropewalk.tuning import descent, draws, loss
from ropewalk.tuning.forward import Tunable, opened
from ropewalk.tuning.pairs import turning

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> schema.Experiment:
    """A random model with a window of 192 tokens, and six texts."""
    folder = tmp_path_factory.mktemp("tune")
    checkpoints.save(folder / "model", checkpoints.llama(max_position_embeddings=192), checkpoints.tokenizer())
    for seed in range(6):
        (folder / f"{seed}.txt").write_text(checkpoints.prose(seed), encoding="utf-8")
    return experiment(folder)


@pytest.fixture(scope="module")
def model() -> Any:
    return checkpoints.llama()


@pytest.fixture(scope="module")
def tunable(model: Any) -> Iterator[Tunable]:
    parts, turns = split(model), turning(model)
    with opened(model, parts, turns) as found:
        yield found


@pytest.fixture(scope="module")
def material() -> draws.Material:
    words = checkpoints.tokenizer()
    texts = [np.array(words(checkpoints.prose(seed))["input_ids"], dtype=np.int32) for seed in range(3)]
    return draws.Material(
        documents=texts,
        bos_id=0,
        encode=encoder(words),
        wording=METRIC.probes.wording,
        banned=frozenset(),
        window=WINDOW,
        length=LENGTH,
    )


@pytest.fixture
def task(model: Any, tunable: Tunable, material: draws.Material, tmp_path: Path) -> descent.Task:
    return descent.Task(
        model=tunable,
        material=material,
        weights=loss.Weights(),
        none=rotation_of(model, "none"),
        what="rotation+head+pair",
        seed=3,
        out=tmp_path,
        name="seed.safetensors",
    )
