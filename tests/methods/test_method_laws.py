"""What holds for every method, over the table: a new method is one row there and nothing here."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from method_table import BRANCHED, EXAMPLE_IDS, EXAMPLES, LENGTHS, LLAMA, QUICK, ROWS, SHIPPED, WINDOW, Row

from ropewalk import methods
from ropewalk.rope import RopeGeometry, Rotation

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
every_example = pytest.mark.parametrize(("row", "raw"), EXAMPLES, ids=EXAMPLE_IDS)
geometries = st.builds(
    RopeGeometry,
    rotary_dim=st.sampled_from([4, 16, 64, 80, 96, 128, 256]),
    rope_theta=st.floats(min_value=1000, max_value=1e7),  # of less, a long window turns every pair too often for a ramp
    max_position_embeddings=st.integers(min_value=256, max_value=2**20),
)


def rotation(row: Row, raw: dict, length: int, geometry: RopeGeometry = LLAMA) -> Rotation:
    return methods.resolve(geometry, row.name, methods.make_params(row.name, row.fit(raw, geometry)), length).rotation


def test_every_method_has_exactly_one_row() -> None:
    apart = {"tuned", "truncate"}  # a file of numbers, and no change of the rotation
    assert {*(row.name for row in ROWS), *BRANCHED} == set(methods.METHODS) - apart
    assert all(name == method.name == method.params.method for name, method in methods.METHODS.items())


@pytest.mark.parametrize("row", [row for row in ROWS if row.name != "resonance"], ids=lambda row: row.name)
@settings(QUICK, max_examples=25)
@given(geometry=geometries, stretch=st.floats(min_value=0.01, max_value=100))
def test_factor_one_returns_f_to_the_last_bit(row: Row, geometry: RopeGeometry, stretch: float) -> None:
    assert row.identity is not None
    raw = dict(row.identity)
    if row.name == "abf":
        raw["rope_theta"] = geometry.rope_theta
    if not row.identity_beyond_window:
        stretch = min(stretch, 1.0)
    length = max(1, int(geometry.max_position_embeddings * stretch))
    result = rotation(row, raw, length, geometry)
    assert result.inv_freq.tobytes() == geometry.unscaled_inv_freq.tobytes()
    assert result.attention_factor == 1.0


def test_dynamic_ntk_at_factor_one_still_grows_beyond_the_window() -> None:
    """The formula, and transformers: alpha = L/L0. So dynamic_ntk is the identity at factor 1 only inside."""
    row = next(row for row in ROWS if row.name == "dynamic_ntk")
    beyond = rotation(row, {"factor": 1}, 4 * WINDOW)
    ntk = methods.resolve(LLAMA, "ntk_aware", methods.make_params("ntk_aware", {"factor": 4}), 1).rotation
    assert beyond == ntk


@settings(QUICK, max_examples=25)
@given(geometry=geometries, factor=st.floats(1, 32), on=st.sampled_from(["linear", "ntk_aware", "yarn"]))
def test_resonance_turns_every_pair_in_whole_tokens_and_moves_none_by_more_than_half_a_token(
    geometry: RopeGeometry, factor: float, on: str
) -> None:
    raw = {"factor": factor}
    wavelength = 2 * np.pi / methods.resolve(geometry, on, methods.make_params(on, raw), 1).rotation.inv_freq
    result = methods.resolve(geometry, "resonance", methods.make_params("resonance", raw | {"on": on}), 1).rotation
    found = 2 * np.pi / result.inv_freq
    slack = 1e-15 * wavelength  # roundings of two quotients
    assert (abs(found - np.round(found)) <= 4 * slack).all()
    assert (abs(found - wavelength) <= 0.5 + 4 * slack).all()


@pytest.mark.parametrize("share", [0.3125, 1.0])
def test_cope_slows_the_last_pairs_down_to_a_stop_and_no_others(share: float) -> None:
    f, slowed = LLAMA.unscaled_inv_freq, int(64 * share)
    result = methods.resolve(LLAMA, "cope", methods.make_params("cope", {"share": share, "on": "linear"}), 1).rotation
    kept = result.inv_freq / f
    assert (kept[: 64 - slowed + 1] == 1).all()
    assert (np.diff(kept[64 - slowed :]) < 0).all()
    assert kept[-1] == 0
    middle = kept[64 - slowed :]
    np.testing.assert_allclose(middle + middle[::-1], 1.0, atol=1e-15)  # symmetric about its middle


@every_example
@settings(QUICK, max_examples=10)
@given(geometry=geometries, stretch=st.floats(min_value=0.01, max_value=100))
def test_lambda_lies_between_1_and_its_bound_and_grows_with_i(
    row: Row, raw: dict, geometry: RopeGeometry, stretch: float
) -> None:
    length = max(1, int(geometry.max_position_embeddings * stretch))
    result = rotation(row, raw, length, geometry)
    assert np.isfinite(result.inv_freq).all()
    assert result.attention_factor >= 1.0
    if row.largest is None:
        return
    window = raw.get("original_max_position_embeddings", geometry.max_position_embeddings)
    s = max(1.0, length / window) if raw.get("factor") == "auto" else float(raw.get("factor", 8.0))
    divisor = geometry.unscaled_inv_freq / result.inv_freq
    slack = 1e-12  # a few roundings of float64 in a quotient near 1
    assert divisor.min() >= 1 - slack
    assert divisor.max() <= row.largest(s, max(1.0, length / window), geometry) * (1 + slack)
    if row.monotone:
        assert (np.diff(divisor) >= -slack * divisor.max()).all()


@pytest.mark.parametrize("raw", [{"factor": 4}, {"factor": 32, "alpha": 0.5, "beta": 7.25}])
@settings(QUICK, max_examples=25)
@given(geometry=geometries)
def test_ntk_by_parts_is_llama3_to_the_last_bit(raw: dict, geometry: RopeGeometry) -> None:
    renamed = {
        "factor": raw["factor"],
        "low_freq_factor": raw.get("alpha", 1),
        "high_freq_factor": raw.get("beta", 32),
    }
    ours = methods.resolve(geometry, "ntk_by_parts", methods.make_params("ntk_by_parts", raw), 1).rotation
    theirs = methods.resolve(geometry, "llama3", methods.make_params("llama3", renamed), 1).rotation
    assert ours.inv_freq.tobytes() == theirs.inv_freq.tobytes()


@every_example
def test_query_times_key_depends_on_distance_alone(row: Row, raw: dict) -> None:
    result = rotation(row, raw, 4 * WINDOW)
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, LLAMA.rotary_dim // 2)) + 1j * rng.standard_normal((2, LLAMA.rotary_dim // 2))

    def logit(query_position: int, key_position: int) -> float:
        turned_q, turned_k = (
            x * result.attention_factor * np.exp(1j * position * result.inv_freq)
            for x, position in ((q, query_position), (k, key_position))
        )
        return float((turned_q * turned_k.conj()).real.sum())

    near = logit(300, 100)
    budget = 1e-8  # phase 2e4 rad * 1e-16 relative, times 64 pairs of size up to 10
    assert logit(16_300, 16_100) == pytest.approx(near, abs=budget)
    assert abs(logit(300, 101) - near) > 1e3 * budget, "another distance has to give another logit"


@every_example
def test_resolving_is_pure_and_the_result_read_only(row: Row, raw: dict) -> None:
    params = methods.make_params(row.name, raw)
    before = (json.dumps(methods.asked(params)), LLAMA.unscaled_inv_freq.tobytes())
    for length in LENGTHS:
        first, second = (methods.resolve(LLAMA, row.name, params, length) for _ in range(2))
        assert first.rotation.inv_freq.tobytes() == second.rotation.inv_freq.tobytes()
        assert first.rotation.fingerprint == second.rotation.fingerprint
        assert first.params == second.params
        assert first.rotation.inv_freq.dtype == np.float64
        assert first.rotation.inv_freq.shape == (LLAMA.rotary_dim // 2,)
        with pytest.raises(ValueError, match="read-only"):
            first.rotation.inv_freq[0] = 0.0
    assert before == (json.dumps(methods.asked(params)), LLAMA.unscaled_inv_freq.tobytes())
    for field in dataclasses.fields(params):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(params, field.name, None)


@pytest.mark.parametrize(("row", "raw"), EXAMPLES[1:], ids=EXAMPLE_IDS[1:])
def test_stack_on_an_unscaled_checkpoint_is_replace(row: Row, raw: dict) -> None:
    for length in LENGTHS:
        replaced, stacked = (rotation(row, {**raw, "compose": compose}, length) for compose in ("replace", "stack"))
        assert stacked.inv_freq.tobytes() == replaced.inv_freq.tobytes()
        assert stacked.attention_factor == replaced.attention_factor


@every_example
def test_asked_values_survive_json(row: Row, raw: dict) -> None:
    params = methods.make_params(row.name, raw)
    asked = methods.asked(params)
    assert methods.make_params(row.name, json.loads(json.dumps(asked))) == params
    assert list(asked) == [name for name in methods.method.parameters(type(params)) if name in asked]
    assert set(asked) <= set(raw)


@every_example
@pytest.mark.parametrize("compose", ["replace", "stack"])
def test_depends_on_length_tells_the_truth(row: Row, raw: dict, compose: str) -> None:
    """False: one rotation at all lengths. True: some lengths differ."""
    params = methods.make_params(row.name, raw if row.name == "none" else {**raw, "compose": compose})
    lengths = (1, 1000, 1025, WINDOW, WINDOW + 1, 5 * WINDOW, 100 * WINDOW)
    for ships in SHIPPED.values():
        geometry = dataclasses.replace(LLAMA, rope_parameters=ships)
        seen = {methods.resolve(geometry, row.name, params, length).rotation.fingerprint for length in lengths}
        assert methods.depends_on_length(geometry, row.name, params) == (len(seen) > 1)


@every_row
def test_only_the_rows_that_say_so_depend_on_length(row: Row) -> None:
    params = methods.make_params(row.name, row.minimal)
    assert methods.depends_on_length(LLAMA, row.name, params) == row.depends_on_length
