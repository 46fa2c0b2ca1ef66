"""The geometry read from a configuration is the one that the stock module runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
import transformers
from tiny_models import ARCHITECTURES, WINDOW, config_of, model_of

from ropewalk.errors import ModelError
from ropewalk.methods import make_params, resolve
from ropewalk.models import geometry_of
from ropewalk.models.layout import rotary_module

ROTARY_DIM = {
    "phi3": 12,
    "gemma4": 32,
    "qwen3_5": 8,
    "gpt_neox": 8,
    "glm4": 16,
    "qwen3": 32,
    "mistral": 32,
    "gemma2": 32,
    "gemma3": 32,
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_geometry_is_that_of_the_stock_module(architecture: str) -> None:
    model = model_of(architecture)
    geometry = geometry_of(model.config)
    prefix = f"{geometry.layer_type}_" if geometry.layer_type else ""
    stock = getattr(rotary_module(model), f"{prefix}inv_freq").double().numpy()
    assert geometry.rotary_dim == 2 * stock.size == ROTARY_DIM.get(architecture, 16)
    shipped = resolve(geometry, "none", make_params("none", {}), WINDOW).rotation
    np.testing.assert_allclose(shipped.inv_freq, stock, rtol=3e-7)  # float32 pow, few ulp
    assert geometry.max_position_embeddings == WINDOW
    assert geometry.original_max_position_embeddings is None
    assert geometry.rope_parameters["rope_type"] == ("proportional" if architecture == "gemma4" else "default")
    assert geometry.layer_type == ("full_attention" if architecture in ("gemma3", "gemma4", "olmo3") else None)


def test_a_theta_wrong_by_a_thousandth_is_noticed() -> None:
    model = model_of("llama")
    model.config.rope_parameters["rope_theta"] *= 1.001
    stock = rotary_module(model).inv_freq.double().numpy()
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(geometry_of(model.config).unscaled_inv_freq, stock, rtol=3e-7)


def test_checkpoints_own_original_window_counts() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}
    geometry = geometry_of(config_of("llama", rope_parameters=scaling))
    assert geometry.original_max_position_embeddings == 64
    assert geometry.window().source == "original_max_position_embeddings"
    assert geometry.rope_parameters == scaling


def test_original_window_that_transformers_fills_in_does_not_count() -> None:
    config = config_of("llama", rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4})
    assert config.rope_parameters["original_max_position_embeddings"] == WINDOW  # by transformers
    geometry = geometry_of(config)
    assert geometry.original_max_position_embeddings is None
    assert geometry.window().source == "max_position_embeddings"


def test_phi3_longrope_keeps_its_original_window_beside_the_scaling() -> None:
    lists = {"short_factor": [1.0] * 6, "long_factor": [2.0] * 6}
    scaling = {"rope_type": "longrope", "rope_theta": 1e4, **lists}
    geometry = geometry_of(config_of("phi3", rope_parameters=scaling, original_max_position_embeddings=64))
    assert (geometry.rotary_dim, geometry.original_max_position_embeddings) == (12, 64)


def test_phi3_class_default_of_4096_is_no_trained_window() -> None:
    config = transformers.Phi3Config(**{**tiny_models.SMALL, "max_position_embeddings": 8192})
    assert config.original_max_position_embeddings == 4096  # nobody said so
    assert geometry_of(config).window().length == 8192


def test_multimodal_configurations_count_by_their_text_part() -> None:
    text = config_of("gemma3").to_dict()
    text["rope_parameters"]["full_attention"] |= {"rope_type": "linear", "factor": 8.0}
    geometry = geometry_of(transformers.Gemma3Config(text_config=text))
    assert (geometry.layer_type, geometry.rotary_dim, geometry.rope_theta) == ("full_attention", 32, 1e6)
    assert geometry.rope_parameters["factor"] == 8.0


@pytest.mark.parametrize("kind", ["GPT2", "Bert", "Mamba", "Bloom"])
def test_configurations_without_rope_are_refused(kind: str) -> None:
    config = getattr(transformers, f"{kind}Config")()
    message = (
        rf"^{kind}Config \({config.model_type}\) has no rotary position embeddings, so there is no rotation to scale; "
        r"choose a RoPE model such as Llama, Qwen, Mistral, Phi, Gemma or OLMo\.$"
    )
    with pytest.raises(ModelError, match=message):
        geometry_of(config)


def test_falcon_with_alibi_is_refused() -> None:
    with pytest.raises(ModelError, match=r"FalconConfig \(falcon\) has no rotary position embeddings"):
        geometry_of(transformers.FalconConfig(alibi=True))


def test_missing_theta_is_refused() -> None:
    config = config_of("llama")
    config.rope_parameters = {"rope_type": "linear", "factor": 2.0}  # as `config.rope_scaling = ...` leaves it
    with pytest.raises(
        ModelError, match=r"^LlamaConfig has rope_theta=None; add the number that the model was trained"
    ):
        geometry_of(config)


def layered(**kinds: dict[str, Any] | None) -> Any:
    text = SimpleNamespace(model_type="odd", rope_parameters=kinds, max_position_embeddings=64, head_dim=8)
    return SimpleNamespace(get_text_config=lambda decoder: text)


ROTATES = {"rope_type": "default", "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("whole", "windowed"),
    [
        ("full_attention", "sliding_attention"),
        ("indexed_attention", "sliding_attention"),  # Dots 3
        ("hybrid", "hybrid_sliding"),  # ZAYA
        ("compress", "main"),  # DeepSeek V4
        ("full_attention", "chunked_attention"),
    ],
)
def test_layers_that_see_the_whole_context_are_told_by_what_windowed_ones_are_called(whole: str, windowed: str) -> None:
    found = geometry_of(layered(**{windowed: ROTATES, whole: {**ROTATES, "rope_theta": 5e4}}))
    assert (found.layer_type, found.rope_theta) == (whole, 5e4)


def test_layers_of_several_kinds_that_see_the_whole_context_are_refused() -> None:
    with pytest.raises(ModelError, match=r"rotates several kinds of layers that see the whole context, each in"):
        geometry_of(layered(a=ROTATES, b=ROTATES))


def test_rotation_of_windowed_layers_alone_is_refused() -> None:
    """As Beam has it, whose global layers have no positions."""
    with pytest.raises(ModelError, match=r"rotates only layers that see a sliding window \(sliding_attention\); tho"):
        geometry_of(layered(sliding_attention=ROTATES, full_attention=None))


@pytest.mark.parametrize("stem", ["GPTJ", "CodeGen", "RoFormer"])
def test_rotation_by_tables_is_refused_for_what_it_is(stem: str) -> None:
    with pytest.raises(ModelError, match=r"rotates by fixed tables of sines and cosines, for which neither"):
        geometry_of(getattr(transformers, f"{stem}Config")())


def test_several_transformers_in_one_are_refused_for_what_they_are() -> None:
    with pytest.raises(ModelError, match=r"^BltConfig \(blt\) joins several transformers, each with a rotation of"):
        geometry_of(transformers.BltConfig())
