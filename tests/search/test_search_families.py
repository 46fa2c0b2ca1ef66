"""Laws of the families: monotone, the identity at zero, bounds, and starts that lie where they should."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_toys import FAMILY, GEOMETRY, LENGTH, configuration

from ropewalk.errors import ExperimentError, MethodError
from ropewalk.experiment.schema import Search
from ropewalk.methods import METHODS, resolve
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.searching import families
from ropewalk.searching.families import CEILING, Monotone, Refine

QUICK = settings(deadline=None, max_examples=50)
geometries = st.builds(
    RopeGeometry,
    rotary_dim=st.sampled_from([8, 64, 80, 128]),
    rope_theta=st.floats(min_value=100, max_value=1e7),
    max_position_embeddings=st.integers(min_value=64, max_value=2**17),
)


def test_a_knot_that_is_hardly_above_zero_counts_as_zero() -> None:
    geometry = RopeGeometry(rotary_dim=8, rope_theta=100.0, max_position_embeddings=64)
    family = Monotone(geometry=geometry, knots=3, length=128)
    assert family.rotation([0.0, 0.0, 1.2e-308, 0.0]) == family.rotation([0.0] * 4)


@QUICK
@given(geometry=geometries, stretch=st.integers(2, 16), data=st.data())
def test_lambda_grows_with_the_pair_between_1_and_the_ceiling(
    geometry: RopeGeometry, stretch: int, data: st.DataObject
) -> None:
    pairs = geometry.rotary_dim // 2
    knots = data.draw(st.integers(2, pairs))
    family = Monotone(geometry=geometry, knots=knots, length=stretch * geometry.max_position_embeddings)
    values = [*data.draw(st.lists(st.floats(-5, 8), min_size=knots, max_size=knots)), data.draw(st.floats(-1, 1))]
    rotation = family.rotation(values)
    log_lambda = np.log(geometry.unscaled_inv_freq / rotation.inv_freq)
    slack = 1e-12  # roundings of float64 in a quotient, an exponential and a logarithm of numbers up to 128
    assert log_lambda.min() >= -slack
    assert log_lambda.max() <= math.log(CEILING * stretch) + slack
    assert (np.diff(log_lambda) >= -slack).all()
    assert rotation.attention_factor == pytest.approx(math.exp(values[-1]), rel=1e-15)


@QUICK
@given(geometry=geometries, data=st.data())
def test_zero_is_the_unscaled_rotation_to_the_last_bit(geometry: RopeGeometry, data: st.DataObject) -> None:
    knots = data.draw(st.integers(2, geometry.rotary_dim // 2))
    family = Monotone(geometry=geometry, knots=knots, length=2 * geometry.max_position_embeddings)
    rotation = family.rotation([0.0] * (knots + 1))
    assert rotation.inv_freq.tobytes() == geometry.unscaled_inv_freq.tobytes()
    assert rotation.attention_factor == 1.0


@QUICK
@given(st.lists(st.floats(0, 3), min_size=8, max_size=8), st.floats(-0.3, 0.3))
def test_with_as_many_knots_as_pairs_every_monotone_list_is_in_the_family(steps: list[float], a: float) -> None:
    family = Monotone(geometry=GEOMETRY, knots=8, length=LENGTH)
    log_lambda = np.minimum(np.cumsum(steps) / 8, family.ceiling)
    wanted = Rotation(inv_freq=GEOMETRY.unscaled_inv_freq / np.exp(log_lambda), attention_factor=math.exp(a))
    found = family.rotation(family.start(configuration("yarn", 4.0), wanted))
    np.testing.assert_allclose(found.inv_freq, wanted.inv_freq, rtol=1e-12)
    assert found.attention_factor == pytest.approx(wanted.attention_factor, rel=1e-12)
    off = family.rotation(family.start(configuration("yarn", 4.0), wanted) + 1e-3)
    assert not np.allclose(off.inv_freq[-1:], wanted.inv_freq[-1:], rtol=1e-6) or log_lambda[-1] == family.ceiling


@pytest.mark.parametrize("name", ["linear", "ntk_aware", "yarn", "llama3", "mrrope", "longrope", "ntk_by_parts"])
def test_a_refined_method_starts_from_itself(name: str) -> None:
    family = Refine(geometry=GEOMETRY, method=name, length=LENGTH)
    wanted = configuration(name, 4.0)
    rotation = resolve(GEOMETRY, name, wanted.params, LENGTH).rotation
    start = family.start(wanted, rotation)
    assert start is not None
    assert len(start) == len(family.names) == len(family.reach)
    np.testing.assert_allclose(family.rotation(start).inv_freq, rotation.inv_freq, rtol=1e-12)
    assert family.start(configuration("yarn" if name != "yarn" else "linear", 4.0), rotation) is None


@QUICK
@given(data=st.data())
def test_a_refined_method_gives_a_rotation_or_is_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["yarn", "llama3", "ntk_by_parts", "ntk_aware", "longrope", "proportional"]))
    family = Refine(geometry=GEOMETRY, method=name, length=LENGTH)
    values = [data.draw(st.floats(-9, 9)) for _ in family.names]
    with contextlib.suppress(MethodError):
        assert np.isfinite(family.rotation(values).inv_freq).all()


VARIANTS = {"cope", "ntk_fixed", "ntk_mixed", "resonance", "rerope", "leaky_rerope", "self_extend", "dca", "string"}
VARIANTS |= {"jet_long", "bifocal", "streaming"}


def test_the_usual_methods_are_all_that_extend_by_a_number() -> None:
    """Those that take a list, a file or training, and variants of the usual ones, are the user's to name."""
    usual = families.named(GEOMETRY, 64, LENGTH)
    assert set(METHODS) - set(usual) == {"none", "proportional", "searched", "tuned", "truncate"} | VARIANTS
    for method, grids in usual.items():
        for grid in grids:
            Refine(geometry=GEOMETRY, method=method, length=LENGTH)
            assert all(value >= 1 for value in grid.values())


def test_what_a_search_asks_for() -> None:
    assert families.make(Search(), GEOMETRY, LENGTH) == Monotone(geometry=GEOMETRY, knots=8, length=LENGTH)
    assert families.make(Search(knots=4), GEOMETRY, LENGTH) == FAMILY
    assert families.make(Search(family="free", knots=3), GEOMETRY, LENGTH).names[-2:] == ("ln lambda 7", "ln A")
    refine = families.make(Search(family="refine", method="yarn"), GEOMETRY, LENGTH)
    assert refine.names == ("ln factor", "ln beta_fast", "ln beta_slow", "ln attention_factor")
    with pytest.raises(ExperimentError, match=r"^search.method=none has no number to vary; name another method.$"):
        families.make(Search(family="refine", method="none"), GEOMETRY, LENGTH)
