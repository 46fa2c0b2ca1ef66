"""The tiny architectures of the model tests, described as an export sees them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parents[1] / "methods"))


@pytest.fixture(autouse=True, scope="session")
def _silence() -> Iterator[None]:
    """transformers logs what it thinks of short_mscale and of drawn configurations."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)
