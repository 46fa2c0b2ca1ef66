"""Against the installed transformers: every rope_type that it has, over drawn models, parameters and lengths.

The budget, 5e-6 relative: transformers computes in float32, which costs up to 5e-7 in f (measured, theta up to 1e7),
where ropewalk computes in float64. In a ramp over turns f is compared with its bounds, so that costs
(s - 1) low/(high - low) times as much where the ramp begins; hence ramps are drawn with s <= 16 and bounds 4 apart
(2.9e-6), and steeper ones that really ship are checked one by one. The twin: 0.1 % anywhere is noticed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from method_table import QUICK
from transformers import Gemma3TextConfig, LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ropewalk import methods
from ropewalk.rope import RopeGeometry, Rotation

RTOL = 5e-6


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """transformers logs what it thinks of drawn configurations."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(min_value=np.log(low), max_value=np.log(high)).map(lambda x: float(np.exp(x)))


BLENDED = ("yarn", "llama3")


@st.composite
def ramps(draw: st.DrawFn) -> tuple[float, float]:
    low = draw(log_uniform(0.25, 8))
    return low, low * draw(log_uniform(4, 64))


@st.composite
def rope_parameters(draw: st.DrawFn, rope_type: str, pairs: int, window: int) -> dict[str, Any]:
    """One dictionary as a config.json could hold it, in Hugging Face keys."""
    rope: dict[str, Any] = {"rope_type": rope_type}
    factors = log_uniform(1, 16 if rope_type in BLENDED else 64)
    if rope_type != "default":
        rope["factor"] = draw(factors)
    if rope_type in ("yarn", "longrope", "llama3"):
        rope["original_max_position_embeddings"] = window
    if rope_type == "llama3":
        rope["low_freq_factor"], rope["high_freq_factor"] = draw(ramps())
    if rope_type == "proportional":
        rope["partial_rotary_factor"] = draw(st.sampled_from([0.25, 0.5, 0.75, 1.0]))
    if rope_type in ("yarn", "longrope"):
        rope["attention_factor"] = draw(st.none() | st.floats(min_value=0.5, max_value=2))
    if rope_type == "yarn":
        rope["beta_slow"], rope["beta_fast"] = draw(ramps())
        rope["truncate"] = draw(st.booleans())
        rope["mscale"], rope["mscale_all_dim"] = draw(st.tuples(*[st.none() | st.floats(0.1, 2)] * 2))
    if rope_type == "longrope":
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        rope["long_factor"], rope["short_factor"] = (rng.uniform(1, 64, pairs).tolist() for _ in range(2))
        rope["factor"] = draw(st.none() | factors)
    return rope


@st.composite
def models(draw: st.DrawFn, rope_type: str) -> tuple[LlamaConfig, int]:
    """A configuration and a length; max_position_embeddings is the window, so that `dynamic` means the same window."""
    head_dim = draw(st.sampled_from([16, 64, 80, 96, 128, 256]))
    window = draw(st.integers(min_value=256, max_value=131072))
    rope = draw(rope_parameters(rope_type, head_dim // 2, window))
    longest = window * draw(st.sampled_from([1, 4])) if rope_type != "dynamic" else window
    config = LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        head_dim=head_dim,
        max_position_embeddings=longest,
        rope_parameters={**rope, "rope_theta": draw(log_uniform(1e3, 1e7))},
    )
    return config, draw(st.integers(min_value=1, max_value=4 * longest))


def theirs(config: Any, length: int, layer_type: str | None = None) -> Rotation:
    rope = config.rope_parameters if layer_type is None else config.rope_parameters[layer_type]
    if rope["rope_type"] == "default":
        inv_freq, attention = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    else:
        inv_freq, attention = ROPE_INIT_FUNCTIONS[rope["rope_type"]](
            config, None, seq_len=length, layer_type=layer_type
        )
    return Rotation(inv_freq=inv_freq.double().numpy(), attention_factor=float(attention))


def geometry_of(config: Any, rope: Mapping[str, Any], **more: Any) -> RopeGeometry:
    return RopeGeometry(
        rotary_dim=config.head_dim,
        rope_theta=rope.get("rope_theta", 1e4),
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters=rope,
        **more,
    )


def shipped(geometry: RopeGeometry, length: int) -> Rotation:
    return methods.resolve(geometry, "none", methods.make_params("none", {}), length).rotation


def agree(ours: Rotation, reference: Rotation, rtol: float = RTOL) -> bool:
    return np.allclose(ours.inv_freq, reference.inv_freq, rtol=rtol, atol=0) and bool(
        np.isclose(ours.attention_factor, reference.attention_factor, rtol=rtol, atol=0)
    )


ROPE_TYPES = ["default", *ROPE_INIT_FUNCTIONS]
OURS = {
    "linear": "linear",
    "dynamic": "dynamic_ntk",
    "yarn": "yarn",
    "llama3": "llama3",
    "longrope": "longrope",
    "proportional": "proportional",
}


def test_every_rope_type_of_transformers_is_known() -> None:
    assert set(ROPE_TYPES) == {"default", *OURS}
    assert all(methods.METHODS[ours].hugging_face == theirs for theirs, ours in OURS.items())


@pytest.mark.parametrize("rope_type", ROPE_TYPES)
@settings(QUICK, max_examples=30)
@given(data=st.data())
def test_shipped_rotation_is_that_of_transformers(rope_type: str, data: st.DataObject) -> None:
    config, length = data.draw(models(rope_type))
    ours = shipped(geometry_of(config, config.rope_parameters), length)
    assert agree(ours, theirs(config, length))


@pytest.mark.parametrize("rope_type", OURS)
@settings(QUICK, max_examples=30)
@given(data=st.data())
def test_method_is_that_of_transformers(rope_type: str, data: st.DataObject) -> None:
    """The same through a user's parameters: their names are ours, so the dictionary of a config is nearly enough."""
    config, length = data.draw(models(rope_type))
    rope = config.rope_parameters
    assume(rope.get("factor", 1) is not None)
    assume((rope.get("mscale") is None) == (rope.get("mscale_all_dim") is None))  # alone: ignored there, ours counts
    named = {key: value for key, value in rope.items() if value is not None and key not in ("rope_type", "rope_theta")}
    params = methods.make_params(OURS[rope_type], named)
    plain = geometry_of(config, {"rope_type": "default", "rope_theta": rope["rope_theta"]})
    ours = methods.resolve(plain, OURS[rope_type], params, length).rotation
    assert agree(ours, theirs(config, length))


# What really ships: rope_parameters (or rope_scaling) of public checkpoints, head_dim, theta, max_position_embeddings.
LLAMA32 = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192}
DEEPSEEK = {"beta_fast": 32, "beta_slow": 1, "factor": 40, "original_max_position_embeddings": 4096}
GPT_OSS = {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096}
SHIPPED = {
    "SmolLM2-135M": (64, 1e5, 8192, {"rope_type": "default"}),
    "Llama-3.1-8B": (128, 5e5, 131072, {"rope_type": "llama3", **LLAMA32, "factor": 8.0}),
    "Llama-3.2-1B": (64, 5e5, 131072, {"rope_type": "llama3", **LLAMA32}),
    "Qwen2.5 with YaRN": (128, 1e6, 32768, {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
    "DeepSeek-V3": (64, 1e4, 163840, {"type": "yarn", **DEEPSEEK, "mscale": 1.0, "mscale_all_dim": 1.0}),
    "DeepSeek-V2-Lite": (64, 1e4, 163840, {"type": "yarn", **DEEPSEEK, "mscale": 0.707, "mscale_all_dim": 0.707}),
    "mscale alone is ignored": (64, 1e4, 163840, {"type": "yarn", **DEEPSEEK, "mscale": 0.5}),
    "mscale_all_dim alone is ignored": (64, 1e4, 163840, {"type": "yarn", **DEEPSEEK, "mscale_all_dim": 0.5}),
    "gpt-oss-20b": (64, 1.5e5, 131072, {"rope_type": "yarn", **GPT_OSS, "truncate": False}),
    "yarn with nulls": (64, 1e4, 16384, {"rope_type": "yarn", "factor": 4.0, "beta_fast": None, "beta_slow": None}),
    "yarn without its window": (64, 1e4, 16384, {"rope_type": "yarn", "factor": 4.0}),
    "llama3 without its window": (
        64,
        5e5,
        8192,
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    ),
    "InternLM2": (128, 1e6, 32768, {"type": "dynamic", "factor": 2.0}),
    "dynamic at factor 1": (128, 1e6, 32768, {"type": "dynamic", "factor": 1.0}),
    "legacy linear": (64, 1e4, 8192, {"type": "linear", "factor": 2.0}),
    "Gemma 4, full attention": (512, 1e6, 131072, {"rope_type": "proportional", "partial_rotary_factor": 0.25}),
    "Phi-3, the ratio of its windows as factor": (
        96,
        1e4,
        131072,
        {
            "rope_type": "longrope",
            "long_factor": [1.0 + i for i in range(48)],
            "short_factor": [1.0 + i / 50 for i in range(48)],
            "original_max_position_embeddings": 4096,
        },
    ),
    "longrope with a factor below 1": (
        64,
        1e4,
        4096,
        {"rope_type": "longrope", "factor": 0.5, "long_factor": [2.0] * 32, "short_factor": [1.0] * 32},
    ),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_rotations_that_ship(name: str) -> None:
    """From the raw dictionary of config.json, before transformers has filled it in."""
    head_dim, theta, longest, rope = SHIPPED[name]
    geometry = RopeGeometry(
        rotary_dim=head_dim, rope_theta=theta, max_position_embeddings=longest, rope_parameters=rope
    )
    config = LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        head_dim=head_dim,
        max_position_embeddings=longest,
        rope_parameters={**rope, "rope_theta": theta},
    )
    for length in (1, 4096, 4097, longest, longest + 1, 3 * longest):
        assert agree(shipped(geometry, length), theirs(config, length))


def test_original_window_beside_rope_parameters_wins_as_in_transformers() -> None:
    """Phi-3 keeps it at the top of config.json; transformers writes that over the one in rope_parameters."""
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    config = Phi3Config(
        max_position_embeddings=16384, original_max_position_embeddings=4096, hidden_size=128, num_attention_heads=2
    )
    config.rope_parameters = {**rope, "rope_theta": 1e4}
    geometry = RopeGeometry(
        rotary_dim=64,
        rope_theta=1e4,
        max_position_embeddings=16384,
        original_max_position_embeddings=4096,
        rope_parameters=rope,
    )
    assert agree(shipped(geometry, 8192), theirs(config, 8192))


def test_truncate_under_a_layer_type_is_ignored_as_in_transformers() -> None:
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096, "truncate": False}
    nested = {
        "full_attention": {**yarn, "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
    }
    config = Gemma3TextConfig(
        hidden_size=128,
        num_attention_heads=2,
        head_dim=64,
        num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=32768,
        rope_parameters=nested,
    )
    reference = theirs(config, 8192, layer_type="full_attention")
    ours = geometry_of(config, nested["full_attention"], layer_type="full_attention")
    assert agree(shipped(ours, 8192), reference)
    flat = geometry_of(config, nested["full_attention"])
    assert not agree(shipped(flat, 8192), reference), "without a layer type truncate counts"


@pytest.mark.parametrize("name", SHIPPED)
def test_twin_a_thousandth_off_is_not_parity(name: str) -> None:
    head_dim, theta, longest, rope = SHIPPED[name]
    geometry = RopeGeometry(
        rotary_dim=head_dim, rope_theta=theta, max_position_embeddings=longest, rope_parameters=rope
    )
    right = shipped(geometry, longest)
    for pair in np.flatnonzero(right.inv_freq):
        wrong = np.where(np.arange(head_dim // 2) == pair, 1.001, 1.0) * right.inv_freq
        assert not agree(Rotation(inv_freq=wrong, attention_factor=right.attention_factor), right)
    assert not agree(Rotation(inv_freq=right.inv_freq, attention_factor=1.001 * right.attention_factor), right)
