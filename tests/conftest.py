"""What all groups share: tiny checkpoints on disk, texts, and an experiment that takes a second."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

import checkpoints
from ropewalk.models import LoadedModel, ModelSpec, load


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> Iterator[None]:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
    logging.set_verbosity(verbosity)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from a second thread, and the machine is shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerFast:
    """Byte-level BPE without BOS."""
    return checkpoints.tokenizer()


@pytest.fixture(scope="session")
def words_bos() -> PreTrainedTokenizerFast:
    """The same, with BOS in its default encoding."""
    return checkpoints.tokenizer(bos=True)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, words: PreTrainedTokenizerFast) -> Path:
    """A random two-layer Llama with a window of 128 tokens."""
    return checkpoints.save(tmp_path_factory.mktemp("tiny"), checkpoints.llama(), words)


@pytest.fixture(scope="session")
def tiny_bos(tmp_path_factory: pytest.TempPathFactory, words_bos: PreTrainedTokenizerFast) -> Path:
    """Other weights, and a tokenizer that puts BOS first."""
    return checkpoints.save(tmp_path_factory.mktemp("tiny-bos"), checkpoints.llama(seed=1), words_bos)


@pytest.fixture(scope="session")
def loaded(tiny: Path) -> LoadedModel:
    return load(ModelSpec.parse(str(tiny)), dtype="float32")


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three texts of some 1300 tokens each."""
    folder = tmp_path_factory.mktemp("texts")
    for seed in range(3):
        (folder / f"text-{seed}.txt").write_text(checkpoints.prose(10 + seed), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def base_experiment(tiny: Path, texts: Path) -> dict[str, Any]:
    return {
        "model": str(tiny),
        "dtype": "float32",
        "lengths": [192, 256],
        "documents": {"files": [str(texts / "*.txt")]},
        "methods": {"yarn": {"factor": [2]}, "linear": {"factor": 2}},
        "metrics": {
            "perplexity": {},
            "longppl": {
                "evaluator": "self",
                "trunc_len": 32,
                "stride": 16,
                "alpha": 0.05,
                "beta": -8.0,
                "min_key_tokens": 5,
            },
            "passkey": {"trials": 3},
        },
        "seed": 3,
    }


@pytest.fixture
def experiment(base_experiment: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """An experiment mapping with some keys replaced (None leaves the key out)."""

    def make(**changes: Any) -> dict[str, Any]:
        mixed = copy.deepcopy(base_experiment) | changes
        return {key: value for key, value in mixed.items() if value is not None}

    return make


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests measured with record_property."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name} {value}")
