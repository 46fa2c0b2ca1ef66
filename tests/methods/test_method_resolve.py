"""The window, `factor: auto`, and stack: what resolve fills in and composes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from method_table import LLAMA, SHIPPED, WINDOW

from ropewalk import methods
from ropewalk.methods import Resolved
from ropewalk.methods.dynamic_ntk import DynamicNtk
from ropewalk.methods.linear import Linear
from ropewalk.methods.llama3 import Llama3
from ropewalk.methods.mrrope import mrrope
from ropewalk.methods.none import Nothing
from ropewalk.methods.yarn import Yarn
from ropewalk.rope import RopeGeometry

SCALED = RopeGeometry(
    rotary_dim=64,
    rope_theta=5e5,
    max_position_embeddings=131072,
    original_max_position_embeddings=8192,
    rope_parameters={
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
)


def resolve(geometry: RopeGeometry, params: methods.Params, length: int) -> Resolved:
    return methods.resolve(geometry, params.method, params, length)


@pytest.mark.parametrize(
    ("compose", "override", "given", "window"),
    [
        ("replace", None, None, 8192),
        ("stack", None, None, 131072),
        ("replace", 4096, None, 4096),
        ("stack", 4096, None, 4096),
        ("replace", 4096, 1000, 1000),
        ("stack", 4096, 1000, 1000),
        ("replace", None, 1000, 1000),
    ],
)
def test_window_is_the_parameter_then_the_experiments_then_the_models(
    compose: str, override: int | None, given: int | None, window: int
) -> None:
    """Seen through auto: factor = length / window."""
    geometry = dataclasses.replace(SCALED, window_override=override)
    raw = {"factor": "auto", "compose": compose, "original_max_position_embeddings": given}
    resolved = resolve(geometry, methods.make_params("linear", raw), 2**20)
    assert resolved.params["factor"] == 2**20 / window
    assert resolved.params.get("original_max_position_embeddings") == given


def test_replace_ignores_what_ships_and_stack_multiplies_it() -> None:
    plain = dataclasses.replace(SCALED, rope_parameters={"rope_type": "default"})
    shipped = resolve(SCALED, Nothing(), 8192).rotation
    alone = resolve(plain, Yarn(factor=4, original_max_position_embeddings=131072), 8192).rotation
    replaced = resolve(SCALED, Yarn(factor=4, original_max_position_embeddings=131072), 8192).rotation
    stacked = resolve(SCALED, Yarn(factor=4, compose="stack"), 8192).rotation
    assert replaced.inv_freq.tobytes() == alone.inv_freq.tobytes()
    f = SCALED.unscaled_inv_freq
    np.testing.assert_allclose(f / stacked.inv_freq, (f / shipped.inv_freq) * (f / alone.inv_freq), rtol=1e-12)
    assert (f / stacked.inv_freq).max() == pytest.approx(32 * 4, rel=1e-12)
    assert stacked.attention_factor == shipped.attention_factor * alone.attention_factor


def test_stack_multiplies_attention_factors() -> None:
    geometry = dataclasses.replace(LLAMA, rope_parameters=SHIPPED["yarn"])
    shipped = resolve(geometry, Nothing(), 1).rotation.attention_factor
    stacked = resolve(geometry, Yarn(factor=4, attention_factor=1.5, compose="stack"), 1).rotation.attention_factor
    assert shipped == pytest.approx(0.1 * np.log(4) + 1, rel=1e-15)
    assert stacked == 1.5 * shipped


def test_none_is_what_ships_whatever_window_the_experiment_says() -> None:
    geometry = dataclasses.replace(LLAMA, rope_parameters=SHIPPED["dynamic"])
    moved = dataclasses.replace(geometry, window_override=100)
    for length in (100, WINDOW, 4 * WINDOW):
        assert resolve(geometry, Nothing(), length).rotation == resolve(moved, Nothing(), length).rotation
    assert (
        resolve(geometry, Nothing(), 4 * WINDOW).rotation == resolve(LLAMA, DynamicNtk(factor=2), 4 * WINDOW).rotation
    )


@pytest.mark.parametrize(
    ("length", "factor"), [(1, 1.0), (WINDOW, 1.0), (WINDOW + 1, 1 + 1 / WINDOW), (4 * WINDOW, 4.0)]
)
def test_auto_is_length_over_window_but_never_below_1(length: int, factor: float) -> None:
    auto, number = resolve(LLAMA, Yarn(factor="auto"), length), resolve(LLAMA, Yarn(factor=factor), length)
    assert auto == number
    assert auto.params == {"factor": factor}


def test_resolved_params_are_the_asked_ones_with_numbers() -> None:
    assert resolve(LLAMA, Llama3(), 4 * WINDOW).params == {}
    assert resolve(LLAMA, Llama3(factor="auto"), 8 * WINDOW).params == {"factor": 8.0}, "asked for, so not a default"
    assert resolve(LLAMA, Nothing(), 1).params == {}
    raw = {"factor": 2, "compose": "stack", "beta_fast": 24}
    params = methods.make_params("yarn", raw)
    assert resolve(LLAMA, params, 1).params == {"factor": 2.0, "beta_fast": 24.0, "compose": "stack"}
    assert list(methods.asked(params)) == ["factor", "beta_fast", "compose"], "the method's own first"


def test_longrope_changes_right_after_the_window() -> None:
    params = methods.make_params("longrope", {"factor": 4})
    inside, last, beyond = (resolve(LLAMA, params, n).rotation for n in (1, WINDOW, WINDOW + 1))
    assert inside == last
    assert last.inv_freq.tobytes() == LLAMA.unscaled_inv_freq.tobytes()
    assert (LLAMA.unscaled_inv_freq / beyond.inv_freq).max() == pytest.approx(4.0, rel=1e-15)
    assert inside.attention_factor == beyond.attention_factor == pytest.approx(np.sqrt(1 + np.log(4) / np.log(WINDOW)))


def test_identical_lists_neutralise_longropes_switch() -> None:
    lists = [1.0 + i / 10 for i in range(64)]
    same = methods.make_params("longrope", {"factor": 4, "long_factor": lists, "short_factor": lists})
    assert not methods.depends_on_length(LLAMA, "longrope", same)
    assert not methods.depends_on_length(LLAMA, "longrope", methods.make_params("longrope", {"factor": 1}))


def test_ints_become_floats_and_lists_tuples() -> None:
    params = methods.make_params("longrope", {"factor": 2, "long_factor": [1, 2]})
    assert params == methods.make_params("longrope", {"factor": 2.0, "long_factor": (1.0, 2.0)})
    assert repr(methods.asked(params)) == "{'factor': 2.0, 'long_factor': [1.0, 2.0]}"
    assert repr(methods.asked(Linear(factor=2))) == "{'factor': 2.0}"
    assert hash(params) == hash(methods.make_params("longrope", methods.asked(params)))


def test_mrrope_says_where_its_formula_comes_from() -> None:
    said = mrrope.__doc__ or ""
    assert "mattian7/mrRoPE" in said
    assert "clamps\n    hi to d - 1" in said
    assert "author's code" in methods.METHODS["mrrope"].paper
