"""What `rw.patched` computes is what stock transformers computes from the exported configuration, logit by logit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import transformers
from tiny_models import WINDOW, logits, model_of, tokens

import ropewalk as rw
from ropewalk.export import hf, request
from ropewalk.export.checkpoint import checkpoint_of, patched_config
from ropewalk.models import geometry_of

LENGTH = 2 * WINDOW
TOLERANCE = 1e-3
"""Frequencies in float32 there are up to 5e-7 off those in float64 here: 2.6e-4 rad at position 512, and these random
models move a logit by a few units per radian. The twin is 0.1 % off, 0.5 rad there."""

METHODS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 2},
    "ntk_aware": {"factor": 4},
    "ntk_by_parts": {"factor": 2},
    "dynamic_ntk": {"factor": 2},
    "yarn": {"factor": 2},
    "llama3": {"factor": 2},
    "longrope": {"factor": 2},
    "abf": {"rope_theta": 1e6},
    "mrrope": {"factor": 2},
}


def difference(architecture: str, method: str, params: dict[str, Any], directory: Path, stray: float = 1.0) -> float:
    """Largest absolute logit difference: patched, and loaded by transformers from a directory with exported keys."""
    plain = model_of(architecture)
    plain.save_pretrained(directory)
    wanted = request(geometry_of(plain.config), method, params, LENGTH, checkpoint_of(plain.config))
    file = directory / "config.json"
    raw = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(patched_config(raw, hf.configure(wanted).config)), encoding="utf-8")
    stock = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype="float32")
    strayed = rw.Rotation(inv_freq=wanted.rotation.inv_freq * stray, attention_factor=wanted.rotation.attention_factor)
    ids = tokens(length=LENGTH)
    with rw.patched(plain, strayed):
        return (logits(plain, ids) - logits(stock, ids)).abs().max().item()


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral", "phi3", "gemma3", "gpt_neox", "olmo2"])
def test_exported_configurations_give_the_patched_logits(
    architecture: str, tmp_path: Path, record_property: Any
) -> None:
    tiny_models.silence()
    found = {method: difference(architecture, method, params, tmp_path) for method, params in METHODS.items()}
    worst = max(found, key=lambda method: found[method])
    record_property("max_logit_difference", f"{found[worst]:.1e} ({worst}, of {len(found)} methods)")
    assert found[worst] < TOLERANCE


def test_twin_a_thousandth_off_is_noticed(tmp_path: Path) -> None:
    assert difference("llama", "yarn", METHODS["yarn"], tmp_path, stray=1.001) > 50 * TOLERANCE
