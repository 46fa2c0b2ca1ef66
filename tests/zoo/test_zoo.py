"""Architectures of every kind equal stock transformers, and the committed table is about all there are."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
import zoo_table
from zoo_compare import compare
from zoo_models import architectures

SAMPLE = {
    "CohereForCausalLM": "pairs",
    "DeepseekV2ForCausalLM": "complex, narrow values",
    "DbrxForCausalLM": "experts whose width is said one level down",
    "FalconForCausalLM": "no intermediate_size, layers called h",
    "Gemma3nForCausalLM": "several streams of hidden states, shared keys",
    "GptOssForCausalLM": "half width, attention sinks",
    "GraniteSWAForCausalLM": "rotary modules in a list, the one named rotary_emb unused",
    "Lfm2MoeForCausalLM": "a module called pos_emb, convolutions",
    "Llama4ForCausalLM": "complex, chunks, no base model",
    "ModernBertDecoderForCausalLM": "a transformation before the head, which is called decoder",
    "MoshiForCausalLM": "a rotary module in every layer",
    "Qwen2_5_VLForConditionalGeneration": "a wrapper that AutoModelForCausalLM does not know, positions on three axes",
}


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_equals_stock(name: str, tmp_path: Path) -> None:
    found = compare(name, architectures()[name], tmp_path)
    assert found.status == zoo_table.read()[name], found.note
    assert found.status in ("equal", "equal with --exact")


def test_the_table_is_about_every_architecture_of_this_transformers() -> None:
    listed, here = set(zoo_table.read()), set(architectures())
    if zoo_table.version() != transformers.__version__:
        pytest.skip(
            f"transformers {transformers.__version__} brings {sorted(here - listed)} and lacks "
            f"{sorted(listed - here)}; run `make zoo`"
        )
    assert here == listed


def test_no_architecture_is_wrong_or_crashes() -> None:
    assert {name: status for name, status in zoo_table.read().items() if status in ("wrong", "crash", "blind")} == {}


def test_most_architectures_equal_stock() -> None:
    statuses = list(zoo_table.read().values())
    assert sum(status in ("equal", "equal with --exact") for status in statuses) >= 0.92 * len(statuses)
