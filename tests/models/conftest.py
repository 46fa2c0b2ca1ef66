"""Fixtures of the model tests: tiny checkpoints on disk, and a network that is not there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
from transformers.utils import logging


@pytest.fixture(autouse=True, scope="session")
def _silence() -> Iterator[None]:
    verbosity = logging.get_verbosity()
    tiny_models.silence()
    yield
    logging.set_verbosity(verbosity)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as `save_pretrained` writes it."""
    directory = tmp_path_factory.mktemp("llama")
    tiny_models.model_of("llama").save_pretrained(directory)
    tiny_models.tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
