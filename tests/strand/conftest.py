"""The shipped strand as stock transformers sees it, and the two scripts that made it."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

import ropewalk

PACKAGE = Path(ropewalk.__file__).parent / "data" / "strand"
TOOLS = Path(__file__).parents[2] / "tools"
RECORD = Path(__file__).parents[2] / "docs" / "strand"


@pytest.fixture(scope="session")
def package() -> Path:
    return PACKAGE


@pytest.fixture(scope="session")
def card() -> str:
    return (RECORD / "MODEL_CARD.md").read_text()


@pytest.fixture(scope="session")
def training() -> dict[str, Any]:
    """What is recorded about the making of the package."""
    return json.loads((RECORD / "training.json").read_text())


@pytest.fixture(scope="session")
def strand() -> LlamaForCausalLM:
    """Float32 on the CPU, where bfloat16 is slow."""
    return AutoModelForCausalLM.from_pretrained(PACKAGE, dtype="float32").eval()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(PACKAGE)


def _tool(name: str) -> ModuleType:
    sys.path.insert(0, str(TOOLS))  # strand_text imports build_corpus, which stands beside it
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="session")
def text_tool() -> ModuleType:
    return _tool("strand_text")


@pytest.fixture(scope="session")
def train_tool() -> ModuleType:
    return _tool("train_strand")
