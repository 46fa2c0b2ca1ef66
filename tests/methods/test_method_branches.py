"""Methods with branches: laws, the map that a paper draws, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from method_table import BRANCHED

from ropewalk import methods
from ropewalk.errors import MethodError
from ropewalk.methods.bifocal import FAR
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Branch, Scheme, distance_map

WINDOW = 64
GEOMETRY = RopeGeometry(rotary_dim=16, rope_theta=1e4, max_position_embeddings=WINDOW)
OWN = Rotation(inv_freq=GEOMETRY.unscaled_inv_freq)
FAR_YARN = {"yarn": {"factor": 4}}
EXAMPLES: dict[str, dict[str, Any]] = {
    "rerope": {"neighbor_window": 16},
    "leaky_rerope": {"neighbor_window": 16, "k": 8},
    "self_extend": {"neighbor_window": 16, "group_size": 4},
    "dca": {},
    "string": {"neighbor_window": 8},
    "jet_long": {"neighbor_window": 16},
    "bifocal": {"neighbor_window": 16, "far": FAR_YARN},
    "streaming": {},
}


def scheme(method: str, raw: dict[str, Any], length: int = 2 * WINDOW, geometry: RopeGeometry = GEOMETRY) -> Scheme:
    return methods.resolve(geometry, method, methods.make_params(method, raw), length).scheme


def test_every_method_with_branches_is_tried() -> None:
    assert sorted(EXAMPLES) == sorted(BRANCHED)


@pytest.mark.parametrize("method", EXAMPLES)
def test_every_token_sees_itself_and_what_is_near_as_trained(method: str) -> None:
    told = distance_map(scheme(method, EXAMPLES[method]).branches, 150)
    places = np.arange(150)
    true = places[:, None] - places[None]
    assert (np.diag(told) == 0).all()
    assert np.isnan(told[true < 0]).all()
    assert (told[(true >= 0) & (true < 8)] == true[(true >= 0) & (true < 8)]).all() or method == "dca"
    assert np.nanmin(told) == 0
    seen = ~np.isnan(told[true >= 0])
    assert seen.all() or method == "streaming"


@pytest.mark.parametrize("method", sorted(EXAMPLES.keys() - {"string", "bifocal"}))
def test_distances_stay_inside_the_window_as_far_as_the_method_reaches(method: str) -> None:
    entry, params = methods.find(method), methods.make_params(method, EXAMPLES[method])
    filled = methods.resolving.with_numbers(GEOMETRY, params, 1)
    most = 600 if entry.reach is None else int(entry.reach(GEOMETRY, filled))
    told = distance_map(scheme(method, EXAMPLES[method], most).branches, most)
    assert np.nanmax(told) < WINDOW
    if entry.reach is not None:
        with pytest.raises(MethodError, match=rf"^{method}: these parameters reach {most} tokens and not {most + 1}"):
            scheme(method, EXAMPLES[method], most + 1)
        longer = distance_map(scheme(method, EXAMPLES[method], most).branches, most + entry_step(method))
        assert np.nanmax(longer) >= WINDOW - 1


def entry_step(method: str) -> int:
    """Tokens after which a far distance has grown by one."""
    return {"leaky_rerope": 8, "self_extend": 4}[method]


SELF_EXTEND = """
0
1 0
2 1 0
3 2 1 0
4 3 2 1 0
4 4 3 2 1 0
5 5 4 3 2 1 0
5 5 4 4 3 2 1 0
6 6 5 5 4 3 2 1 0
6 6 5 5 4 4 3 2 1 0
"""
"""Figure 3 of arXiv:2401.01325 in small: w = 4, G = 2, ten tokens."""


def test_self_extend_is_the_papers_figure() -> None:
    drawn = [[int(cell) for cell in line.split()] for line in SELF_EXTEND.split("\n") if line]
    told = distance_map(scheme("self_extend", {"neighbor_window": 4, "group_size": 2}, 10).branches, 10)
    assert [row[: n + 1].tolist() for n, row in enumerate(told)] == drawn


def test_dca_counts_within_chunks() -> None:
    told = distance_map(scheme("dca", {"chunk_size": 6, "local_size": 2}).branches, 12)
    assert told[3, :4].tolist() == [3, 2, 1, 0]
    assert told[4, :5].tolist() == [4, 3, 2, 1, 0]  # one chunk on: 0 + 4 - j
    assert told[7, :8].tolist() == [6, 5, 4, 3, 3, 2, 1, 0]  # min(3 + 4, 6) - j
    assert told[9, :10].tolist() == [6, 5, 4, 3, 5, 4, 3, 2, 1, 0]  # older: min(2 * 4 - 1, 6) - j


@pytest.mark.parametrize(
    ("method", "raw", "length"),
    [
        ("self_extend", {"neighbor_window": 16, "group_size": 1}, WINDOW),
        ("leaky_rerope", {"neighbor_window": 16, "k": 1}, WINDOW),
        ("jet_long", {"neighbor_window": 16}, WINDOW),
        ("string", {"shift": 16, "neighbor_window": 16}, WINDOW),
        ("bifocal", {"neighbor_window": 16, "far": {"yarn": {"factor": 1}}}, 4 * WINDOW),
        ("bifocal", {"neighbor_window": 16, "far": {"dynamic_ntk": {"factor": 4}}}, WINDOW),
    ],
)
def test_nothing_to_do_is_the_unscaled_model_to_the_last_bit(method: str, raw: Any, length: int) -> None:
    found = scheme(method, raw, length)
    assert found == Scheme(rotation=OWN)
    assert found.fingerprint == OWN.fingerprint


@pytest.mark.parametrize("method", ["rerope", "leaky_rerope", "self_extend", "jet_long", "bifocal"])
def test_a_text_no_longer_than_the_near_window_is_told_its_own_distances(method: str) -> None:
    found = scheme(method, EXAMPLES[method] | {"neighbor_window": WINDOW}, WINDOW)
    places = np.arange(WINDOW)
    told = distance_map(found.branches, WINDOW) if found.branches else places[:, None] - places[None] + 0.0
    np.testing.assert_array_equal(np.tril(told), np.tril(places[:, None] - places[None]))
    assert found.branches[:1] in ((), (Branch(rotation=OWN, stop=WINDOW + (method == "jet_long")),))


FARS: dict[str, dict[str, Any]] = {
    "yarn": {"factor": 4},
    "abf": {"rope_theta": 1e6},
    "linear": {"factor": "auto"},
    "resonance": {"factor": 4},
    "proportional": {"factor": 2, "partial_rotary_factor": 0.5},
}


def test_bifocal_takes_the_far_methods_rotation() -> None:
    for name, raw in FARS.items():
        far = methods.resolve(GEOMETRY, name, methods.make_params(name, raw), 256).rotation
        found = scheme("bifocal", {"neighbor_window": 16, "far": {name: raw}}, 256)
        assert [branch.rotation for branch in found.branches] == [OWN, far]
    params = methods.make_params("bifocal", {"far": {"linear": {"factor": "auto"}}})
    assert methods.depends_on_length(GEOMETRY, "bifocal", params)
    assert methods.make_params("bifocal", methods.asked(params)) == params
    assert set(FAR) == set(methods.METHODS) - set(EXAMPLES) - {"none", "searched", "tuned", "truncate"}


def test_only_what_says_so_depends_on_the_length() -> None:
    varying = {
        method
        for method, raw in EXAMPLES.items()
        if methods.depends_on_length(GEOMETRY, method, methods.make_params(method, raw))
    }
    assert varying == {"jet_long"}
    released = methods.make_params("dca", {"reading": "released"})
    assert methods.depends_on_length(GEOMETRY, "dca", released)
    factor = methods.resolve(GEOMETRY, "dca", released, 4 * WINDOW).scheme.rotation.attention_factor
    assert factor == pytest.approx(0.05 * np.log(4) + 1, rel=1e-12)


def test_stacking_turns_every_branch_over_what_ships() -> None:
    shipped = {"rope_type": "linear", "factor": 2.0}
    geometry = RopeGeometry(rotary_dim=16, rope_theta=1e4, max_position_embeddings=WINDOW, rope_parameters=shipped)
    found = scheme("self_extend", {**EXAMPLES["self_extend"], "compose": "stack"}, geometry=geometry)
    for rotation in (found.rotation, *(branch.rotation for branch in found.branches)):
        np.testing.assert_allclose(rotation.inv_freq, OWN.inv_freq / 2, rtol=1e-15)


def test_a_temperature_stands_beside_any_method() -> None:
    for method, raw in {**EXAMPLES, "yarn": {"factor": 4}}.items():
        found = scheme(method, {**raw, "temperature": "logn"})
        assert found.temperature is not None
        assert (found.temperature.kind, found.temperature.scale) == ("logn", WINDOW)
        assert scheme(method, raw).temperature is None
    constant = scheme("linear", {"factor": 1, "temperature": 1.2}).temperature
    assert constant is not None
    assert constant.at(np.arange(3)).tolist() == [1.2] * 3


def test_what_reads_rotations_alone_does_not_lose_the_rest() -> None:
    resolved = methods.resolve(GEOMETRY, "rerope", methods.make_params("rerope", EXAMPLES["rerope"]), WINDOW)
    with pytest.raises(MethodError, match="this method changes attention as well"):
        _ = resolved.rotation


@pytest.mark.parametrize(
    ("method", "raw", "sentence"),
    [
        ("rerope", {"neighbor_window": 65}, "rerope: neighbor_window=65 must be at most the trained window of 64"),
        ("string", {"shift": 8, "neighbor_window": 9}, "string: neighbor_window=9 must be at most shift=8"),
        ("streaming", {"sinks": 4, "neighbor_window": 61}, "streaming: 4 sinks and neighbor_window=61 must together"),
        ("dca", {"chunk_size": 8, "local_size": 8}, "dca: local_size=8 must be smaller than chunk_size=8"),
        ("dca", {"chunk_size": 65}, "dca: local_size=8 must be smaller than chunk_size=65, and that at most"),
        (
            "bifocal",
            {"far": {"yran": {"factor": 2}}},
            "bifocal: far='yran' is no frequency method; did you mean",
        ),
        ("bifocal", {"far": "yarn"}, "bifocal: far='yarn' must be one of linear, .* write e.g. far: "),
        ("bifocal", {"far": {"yarn": {"factor": 0.5}}}, "yarn: factor=0.5 must be a number >= 1"),
        ("yarn", {"factor": 2, "temperature": "lgon"}, "yarn: temperature='lgon' must be a number >= 0.001 .* 'logn'"),
    ],
)
def test_refusals(method: str, raw: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MethodError, match=sentence):
        scheme(method, raw)
