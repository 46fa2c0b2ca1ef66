"""What rotary modules compute, read back by calling them: of objects, directories and GGUF files."""

from __future__ import annotations

import json
from pathlib import Path

import gguf_models
import numpy as np
import pytest
import tiny_models
import torch

import ropewalk as rw
from ropewalk.diagnosis import command
from ropewalk.diagnosis.readback import ReadBack
from ropewalk.diagnosis.turning import read
from ropewalk.errors import ModelError

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_stock_models_run_what_their_configuration_says(architecture: str) -> None:
    found = rw.diagnose(tiny_models.model_of(architecture))
    assert found.healthy, found.lines()


def test_a_scaling_that_is_not_on() -> None:
    found = rw.diagnose(tiny_models.model_of("llama"), "yarn", factor=4)
    assert (found.healthy, found.layers[0].name) == (False, "unscaled")
    assert "runs unscaled" in found.sentence


def test_what_is_called_counts_and_not_the_buffers() -> None:
    """Another library's forward in the place of the module's own."""
    model = tiny_models.model_of("llama")
    module = model.model.rotary_emb
    stock = module.forward
    module.forward = lambda x, position_ids: tuple(1.1 * each for each in stock(x, position_ids))
    found = rw.diagnose(model)
    assert found.layers[0].name is None
    assert found.layers[0].turning.rotation is not None
    assert found.layers[0].turning.rotation.attention_factor == pytest.approx(1.1, rel=1e-6)


def test_positions_that_are_rounded_are_no_rotation() -> None:
    model = tiny_models.model_of("llama")
    stock = model.model.rotary_emb.forward
    model.model.rotary_emb.forward = lambda x, position_ids: stock(x, position_ids.clamp(max=100))
    found = rw.diagnose(model)
    assert "is no static rotation" in found.layers[0].turning.problem


def test_frequencies_cast_to_bfloat16() -> None:
    found = rw.diagnose(tiny_models.model_of("llama").to(torch.bfloat16))
    assert found.layers[0].name == "as asked, rounded"
    assert "load it with dtype=, not model.to()" in found.sentence


def test_sliding_layers_that_are_scaled_too() -> None:
    model = tiny_models.model_of("gemma3")
    shipped = dict(model.config.rope_parameters)
    scaled = {kind: rope | {"rope_type": "linear", "factor": 4.0} for kind, rope in shipped.items()}
    other = tiny_models.model_of("gemma3", rope_parameters=scaled)
    found = rw.diagnose(other, "linear", factor=4, config=model.config)
    named = {each.turning.layer_type: each.name for each in found.layers}
    assert named == {"full_attention": "as asked", "sliding_attention": "sliding layers scaled"}


def test_a_directory_with_a_key_that_nobody_reads(tiny: Path, tmp_path: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "scaling_factor": 4.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = command.run(str(tmp_path), command.Options(params={}))
    assert isinstance(found, ReadBack)
    assert len(found.ignored) == 1
    assert "config.json: rope_parameters.scaling_factor=4.0 is read by nobody" in found.ignored[0]
    assert not found.healthy


def test_a_gguf_file(tmp_path: Path) -> None:
    model = tiny_models.model_of("llama", rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    file = gguf_models.write(tmp_path / "m.gguf", model)
    model.save_pretrained(tmp_path / "hf")
    assert command.run(str(file), command.Options(params={})).healthy
    options = command.Options(model=str(tmp_path / "hf"), method="linear", params={"factor": 4})
    found = command.run(str(file), options)
    assert isinstance(found, ReadBack)
    assert found.layers[0].name == "unscaled"


def test_a_model_without_rotary_modules() -> None:
    with pytest.raises(ModelError, match="Linear has no transformers configuration"):
        rw.diagnose(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("layout", ["halves", "pairs", "half width"])
def test_layouts(layout: str) -> None:
    inv_freq, positions = np.array([1.0, 0.1, 0.003]), (0, 1, 50, 99)
    angle = np.array(positions)[:, None] * inv_freq
    wide = {"halves": np.hstack([angle, angle]), "pairs": angle.repeat(2, axis=1), "half width": angle}[layout]
    rotation, problem = read(1.2 * np.cos(wide), 1.2 * np.sin(wide), positions)
    assert problem == ""
    assert rotation is not None
    np.testing.assert_allclose(rotation.inv_freq, inv_freq, rtol=1e-12)
    assert rotation.attention_factor == pytest.approx(1.2)
