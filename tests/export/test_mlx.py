"""mlx-lm: the keys that it reads, as its own formulas turn them, and its directory run live where it is installed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_oracles import frequencies, ramp
from export_requests import EXAMPLES, GEOMETRY, LLAMA_3, ask_of

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES, Checkpoint, command, request
from ropewalk.export.engine import Options
from ropewalk.rope import Rotation

MLX = ENGINES["mlx"]


def oracle(config: dict[str, Any], d: int) -> Rotation:
    """mlx-lm 0.32.2's initialize_rope over `rope_theta` and `rope_scaling`, from its source."""
    f, rope = frequencies(config["rope_theta"], d), config["rope_scaling"]
    if rope is None:
        return Rotation(inv_freq=f)
    if rope["rope_type"] == "linear":
        return Rotation(inv_freq=f / rope["factor"])
    window = rope["original_max_position_embeddings"]
    if rope["rope_type"] == "llama3":
        turns = window * f / (2 * math.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = np.clip((turns - low) / (high - low), 0, 1)
        return Rotation(inv_freq=(1 - smooth) * f / rope["factor"] + smooth * f)
    if rope["rope_type"] == "longrope":
        s = config["max_position_embeddings"] / window
        factor = 1.0 if s <= 1 else math.sqrt(1 + math.log(s) / math.log(window))
        return Rotation(inv_freq=f / np.array(rope["long_factor"]), attention_factor=factor)
    assert rope["rope_type"] == "yarn"
    kept = ramp(config["rope_theta"], d, window, rope["beta_fast"], rope["beta_slow"])
    turn = 0.1 * math.log(rope["factor"])
    factor = (1 + rope["mscale"] * turn) / (1 + rope["mscale_all_dim"] * turn)
    return Rotation(inv_freq=f / rope["factor"] * (1 - kept) + f * kept, attention_factor=factor)


VARIANTS = [
    *EXAMPLES.items(),
    ("yarn", {"factor": 4, "attention_factor": 1.7}),
    ("yarn", {"factor": 4, "attention_factor": 0.8}),
    ("yarn", {"factor": 4, "truncate": False}),
]


@pytest.mark.parametrize(("method", "params"), VARIANTS)
@pytest.mark.parametrize("geometry", [GEOMETRY, LLAMA_3], ids=["plain", "llama3"])
def test_mlx_turns_as_asked(geometry: Any, method: str, params: dict[str, Any]) -> None:
    length = 16384 if geometry is GEOMETRY else 131072
    asked = ask_of(geometry, method, length, **params)
    found = oracle(dict(MLX.configure(asked).config), 64)
    np.testing.assert_allclose(found.inv_freq, asked.rotation.inv_freq, rtol=1e-6, atol=1e-14)
    assert found.attention_factor == pytest.approx(asked.rotation.attention_factor, rel=1e-6)


@pytest.mark.parametrize(
    ("model_type", "params", "said"),
    [
        ("gpt_neox", {"factor": 4}, "reads a base alone"),
        ("glm4", {"factor": 4}, "was not run"),
        ("llama", {"factor": 4, "truncate": False, "attention_factor": 0.9}, "no attention factor below 1 over a list"),
    ],
)
def test_what_mlx_cannot_say_is_refused(model_type: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        MLX.configure(request(GEOMETRY, "yarn", params, 16384, Checkpoint(model_type=model_type)))


def test_phi3_gets_the_name_that_it_reads() -> None:
    asked = request(GEOMETRY, "yarn", {"factor": 4}, 16384, Checkpoint(model_type="phi3", original_beside=True))
    config = MLX.configure(asked).config
    assert config["rope_scaling"]["type"] == "longrope"
    assert config["original_max_position_embeddings"] == 2**16
    assert config["rope_theta"] == GEOMETRY.rope_theta


def test_a_directory_that_transformers_reads_back_alike(tmp_path: Path) -> None:
    """`write_directory` refuses one whose rotation is another."""
    out = tmp_path / "out"
    options = Options(out=out)
    command.run("yarn", "mlx", model="strand", params={"factor": 4, "truncate": False}, length=1024, options=options)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(
        oracle(config, 2 * len(config["rope_scaling"]["long_factor"])).inv_freq,
        ask_strand().inv_freq,
        rtol=1e-6,
    )


def ask_strand() -> Rotation:
    from ropewalk.export.checkpoint import describe
    from ropewalk.models import ModelSpec

    found = describe(ModelSpec(id="strand"))
    return request(found.geometry, "yarn", {"factor": 4, "truncate": False}, 1024, found.checkpoint).rotation


def test_without_mlx_lm_the_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from ropewalk.export import run_mlx

    monkeypatch.setitem(__import__("sys").modules, "mlx_lm", None)
    with pytest.raises(ExportError, match=r"needs mlx-lm .* run `pip install mlx-lm`"):
        run_mlx.library()


@pytest.mark.parametrize("method", ["none", "yarn", "llama3", "mrrope"])
def test_live(method: str) -> None:
    pytest.importorskip("mlx_lm")
    params = {} if method == "none" else {"factor": 4}
    length = 256 if method == "none" else 1024
    options = Options(check=True)
    said = command.run(method, "mlx", model="strand", params=params, length=length, options=options)
    assert "mlx-lm" in str(said)
