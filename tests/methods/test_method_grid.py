"""Grids: a scalar is one value, a list an axis; for list-valued parameters a flat list is one value."""

from __future__ import annotations

from typing import Any

import pytest

from ropewalk import methods
from ropewalk.errors import MethodError


def expanded(method: str, raw: dict[str, Any]) -> list[dict[str, Any]]:
    return [methods.asked(params) for params in methods.expand(method, raw)]


def test_product_is_in_written_order_the_first_name_slowest() -> None:
    assert expanded("yarn", {"factor": [2, 4], "beta_fast": [24, 48]}) == [
        {"factor": 2.0, "beta_fast": 24.0},
        {"factor": 2.0, "beta_fast": 48.0},
        {"factor": 4.0, "beta_fast": 24.0},
        {"factor": 4.0, "beta_fast": 48.0},
    ]
    assert expanded("yarn", {"beta_fast": [48, 24], "factor": [2, 4]}) == [
        {"factor": 2.0, "beta_fast": 48.0},
        {"factor": 4.0, "beta_fast": 48.0},
        {"factor": 2.0, "beta_fast": 24.0},
        {"factor": 4.0, "beta_fast": 24.0},
    ]


def test_scalars_words_and_nothing() -> None:
    assert expanded("none", {}) == [{}]
    assert expanded("llama3", {}) == [{}]
    assert expanded("yarn", {"factor": ["auto", 4], "ramp": ["index", "turns"], "truncate": [True, False]})[-1] == {
        "factor": 4.0,
        "truncate": False,
        "ramp": "turns",
    }


def test_duplicates_are_removed_also_those_spelled_differently() -> None:
    assert expanded("linear", {"factor": [2, 2.0, 4, 2]}) == [{"factor": 2.0}, {"factor": 4.0}]
    assert expanded("yarn", {"factor": 2, "beta_fast": [32, 48]}) == [
        {"factor": 2.0},
        {"factor": 2.0, "beta_fast": 48.0},
    ]


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ([1, 2], [[1.0, 2.0]]),
        ((1, 2), [[1.0, 2.0]]),
        ([[1, 2]], [[1.0, 2.0]]),
        ([[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
        ([[1, 2], None], [[1.0, 2.0], None]),
        (None, [None]),
    ],
)
def test_a_flat_list_is_one_value_of_a_list_parameter(written: Any, values: list[Any]) -> None:
    grid = expanded("longrope", {"factor": 4, "long_factor": written})
    assert [params.get("long_factor") for params in grid] == values


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"factor": []}, "longrope: factor=[] is an empty list; give at least one value, or leave factor out."),
        (
            {"factor": 2, "long_factor": []},
            "longrope: long_factor=[] is an empty list; give at least one value, or leave long_factor out.",
        ),
    ],
)
def test_an_empty_axis_is_refused(raw: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MethodError) as caught:
        methods.expand("longrope", raw)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("method", "raw", "match"),
    [
        ("yarn", {"factor": [2, 0.5]}, r"yarn: factor=0\.5 must be"),
        ("yarn", {"factor": [2, [3]]}, r"yarn: factor=\[3\] must be"),
        ("yarn", {"factor": 2, "beta_fast": [1, 32]}, "beta_fast=1 must be larger than beta_slow=1"),
        ("yarn", {"scaling_factor": [2, 4]}, "'scaling_factor' is not a parameter; did you mean 'factor'"),
        ("longrope", {"factor": 2, "long_factor": [[1, 2], 3]}, "longrope: long_factor=3 must be a list"),
        ("linear", [2], r"linear: parameters must be a mapping of names to values, not \[2\]"),
        ("linnear", {}, "did you mean 'linear'"),
    ],
)
def test_every_combination_has_to_be_possible(method: str, raw: Any, match: str) -> None:
    with pytest.raises(MethodError, match=match):
        methods.expand(method, raw)


def test_the_grid_of_172_cells_has_43_configurations() -> None:
    """METHODS.md: six methods, 43 configurations, four lengths, in our names."""
    window = {"original_max_position_embeddings": 131072}
    grid: list[tuple[str, dict[str, Any], int]] = [
        ("linear", {"factor": [2, 3, 4, 8]}, 4),
        ("ntk_by_parts", {"factor": "auto", "alpha": [1, 1.5, 2], "beta": [16, 32, 64]}, 9),
        ("yarn", {"factor": [2, 3, 4, 8], "beta_fast": [24, 32, 48], "beta_slow": 1, "mscale": 1.0}, 12),
        ("longrope", {"factor": [2, 4, 8], **window}, 3),
        ("dynamic_ntk", {"factor": [2, 4, 8], **window}, 3),
        ("llama3", {"factor": [2, 4, 8], "low_freq_factor": [1, 2], "high_freq_factor": [4, 8], **window}, 12),
    ]
    assert [len(methods.expand(name, raw)) for name, raw, _ in grid] == [count for _, _, count in grid]
    assert sum(count for _, _, count in grid) == 43
