"""What cannot be is refused in one sentence: the value, its place, the remedy. The sentences are frozen here."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from method_table import LLAMA, QUICK, ROWS, Row

from ropewalk import methods
from ropewalk.errors import MethodError, ModelError, RopewalkError
from ropewalk.methods.abf import Abf
from ropewalk.methods.linear import Linear
from ropewalk.methods.method import parameters
from ropewalk.methods.yarn import Yarn
from ropewalk.rope import RopeGeometry

FACTOR = (
    "must be a number >= 1 and <= 1e+06 or 'auto' (s, target length / trained window; 'auto' takes it from each "
    "measured length); write 'auto', or use the method 'none' to measure the unscaled model."
)
ALL = (
    "all: none, linear, ntk_aware, ntk_by_parts, dynamic_ntk, yarn, llama3, longrope, abf, mrrope, proportional, "
    "searched, tuned, truncate, rerope, leaky_rerope, self_extend, dca, string, jet_long, bifocal, streaming, cope, "
    "ntk_fixed, ntk_mixed, resonance"
)
YARN = (
    "all: factor, beta_fast, beta_slow, attention_factor, mscale, mscale_all_dim, truncate, ramp, "
    "original_max_position_embeddings, compose, temperature"
)
FAST = "(turns in the window from which a pair is kept); leave beta_fast out for the default, 32.0."
LONG = (
    "must be a list of numbers > 0 and <= 1e+15 or null (lambda per pair beyond the window; null is s(1-m) + m with "
    "yarn's ramp m); leave long_factor out for the default, null."
)
WINDOW = (
    "must be a whole number >= 1 and <= 1e+15 or null (trained window L0 in tokens; null takes the model's); "
    "leave original_max_position_embeddings out for the default, null."
)
REFUSED: list[tuple[str, Any, str]] = [
    # names
    ("yarm", {}, f"there is no method 'yarm'; did you mean 'yarn' ({ALL})."),
    ("dynamic", {}, f"there is no method 'dynamic'; did you mean 'dynamic_ntk' ({ALL})."),
    ("default", {}, f"there is no method 'default'; did you mean 'none' ({ALL})."),
    ("xyzzy", {}, f"there is no method 'xyzzy' ({ALL})."),
    (
        "InfLLM",
        {},
        "there is no method 'InfLLM': it looks up far tokens by what they hold (arXiv:2402.04617), and attention here "
        "goes by distance alone; self_extend and dca come nearest.",
    ),
    (
        "yarn",
        {"factor": 2, "beta_fats": 8},
        f"yarn: 'beta_fats' is not a parameter; did you mean 'beta_fast' ({YARN}).",
    ),
    ("yarn", {"scaling_factor": 2}, f"yarn: 'scaling_factor' is not a parameter; did you mean 'factor' ({YARN})."),
    ("yarn", {"alpha": 1}, f"yarn: 'alpha' is not a parameter; did you mean 'beta_slow' ({YARN})."),
    ("yarn", {"factor": 2, "xyzzy": 1}, f"yarn: 'xyzzy' is not a parameter ({YARN})."),
    ("yarn", {"factor": 2, 7: 1}, f"yarn: 7 is not a parameter ({YARN})."),
    (
        "llama3",
        {"scaling_factor": 2},
        "llama3: 'scaling_factor' is not a parameter; did you mean 'factor' (all: factor, low_freq_factor, "
        "high_freq_factor, original_max_position_embeddings, compose, temperature).",
    ),
    (
        "ntk_aware",
        {"alpha": 2},
        "ntk_aware: 'alpha' is not a parameter; did you mean 'factor' (all: factor, "
        "original_max_position_embeddings, compose, temperature).",
    ),
    ("none", {"factor": 2}, "none: 'factor' is not a parameter, none takes none; leave it out."),
    (
        "yarn",
        [4],
        "yarn: parameters must be a mapping of names to values, not [4]; write yarn: {} for the defaults.",
    ),
    # a required one is missing
    (
        "linear",
        {},
        "linear: factor is missing (s, target length / trained window; 'auto' takes it from each measured length); "
        "give a number >= 1 and <= 1e+06 or 'auto'.",
    ),
    ("abf", {}, "abf: rope_theta is missing (the new base b'); give a number > 1 and <= 1e+15."),
    # factor
    *[
        ("linear", {"factor": value}, f"linear: factor={value!r} {FACTOR}")
        for value in (0.5, 0, -2, math.nan, math.inf, -math.inf, True, False, "4", "AUTO", None, 1e7, {"a": 1}, [2])
    ],
    ("linear", {"factor": 10**400}, f"linear: factor=100000000000000000...0000000000000000000 {FACTOR}"),
    ("linear", {"factor": 10**5000}, f"linear: factor=a very large int {FACTOR}"),
    # other numbers
    ("yarn", {"factor": 2, "beta_fast": 0}, f"yarn: beta_fast=0 must be a number > 0 and <= 1e+15 {FAST}"),
    ("yarn", {"factor": 2, "beta_fast": "32"}, f"yarn: beta_fast='32' must be a number > 0 and <= 1e+15 {FAST}"),
    ("yarn", {"factor": 2, "beta_fast": True}, f"yarn: beta_fast=True must be a number > 0 and <= 1e+15 {FAST}"),
    (
        "yarn",
        {"factor": 2, "attention_factor": -1},
        "yarn: attention_factor=-1 must be a number > 0 and <= 1000 or 'auto' (A, multiplies cos and sin; 'auto' "
        "takes the method's own formula); leave attention_factor out for the default, auto.",
    ),
    (
        "abf",
        {"rope_theta": 1},
        "abf: rope_theta=1 must be a number > 1 and <= 1e+15 (the new base b'); write 500000, as Llama 2 Long does.",
    ),
    (
        "proportional",
        {"partial_rotary_factor": 1.5},
        "proportional: partial_rotary_factor=1.5 must be a number > 0 and <= 1 (p, the share of pairs that turn); "
        "write 0.25, as Gemma 4 ships.",
    ),
    # the window
    *[
        (
            "linear",
            {"factor": 2, "original_max_position_embeddings": value},
            f"linear: original_max_position_embeddings={value!r} {WINDOW}",
        )
        for value in (0, -1, 4096.5, 4096.0, "4096", True)
    ],
    # words and flags
    (
        "yarn",
        {"factor": 2, "ramp": "turn"},
        "yarn: ramp='turn' must be 'index' or 'turns' (ramp in pair index (released code) or in turns (paper)); "
        "leave ramp out for the default, index.",
    ),
    (
        "yarn",
        {"factor": 2, "truncate": 1},
        "yarn: truncate=1 must be true or false (round the bounds of the ramp to whole pairs; nothing with "
        "ramp: turns); leave truncate out for the default, true.",
    ),
    (
        "linear",
        {"factor": 2, "compose": "add"},
        "linear: compose='add' must be 'replace' or 'stack' (replace the scaling that the checkpoint ships, or stack "
        "on top of it); leave compose out for the default, replace.",
    ),
    # lists
    *[
        ("longrope", {"factor": 2, "long_factor": value}, f"longrope: long_factor={value!r} {LONG}")
        for value in (3, "abc", [], [1, 0], [1, -1], [1, math.nan], [1, True], [1, "2"], [1e16])
    ],
    # together
    (
        "ntk_by_parts",
        {"factor": 2, "alpha": 32},
        "ntk_by_parts: beta=32 must be larger than alpha=32; write alpha 1 and beta 32, as the paper does, turns in "
        "the window.",
    ),
    (
        "llama3",
        {"high_freq_factor": 1},
        "llama3: high_freq_factor=1 must be larger than low_freq_factor=1; write 1 and 4, as Llama 3.1 does, "
        "turns in the window.",
    ),
    (
        "yarn",
        {"factor": 2, "beta_fast": 1, "beta_slow": 1},
        "yarn: beta_fast=1 must be larger than beta_slow=1; write beta_slow 1 and beta_fast 32, as the paper does, "
        "turns in the window.",
    ),
    (
        "yarn",
        {"factor": 2, "mscale_all_dim": 1},
        "yarn: mscale_all_dim=1 counts only together with mscale; give both, or leave mscale_all_dim out.",
    ),
]


def refusal(error: RopewalkError) -> str:
    """The text, which has to be one sentence on one line."""
    text = str(error)
    assert text.endswith(".")
    assert ". " not in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("method", "raw", "sentence"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_make_params_refuses(method: str, raw: Any, sentence: str) -> None:
    with pytest.raises(MethodError) as caught:
        methods.make_params(method, raw)
    assert refusal(caught.value) == sentence


def test_constructing_parameters_refuses_in_the_same_words() -> None:
    with pytest.raises(MethodError) as caught:
        Linear(factor=0.5)
    assert refusal(caught.value) == f"linear: factor=0.5 {FACTOR}"
    with pytest.raises(MethodError, match="beta_fast=1 must be larger than beta_slow=2"):
        Yarn(factor=2, beta_fast=1, beta_slow=2)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@settings(QUICK, max_examples=25)
@given(data=st.data())
def test_anything_is_either_parameters_or_one_sentence(row: Row, data: st.DataObject) -> None:
    """No other exception escapes, and what is admitted resolves to finite numbers or is refused by the geometry."""
    number = st.floats() | st.integers() | st.sampled_from([0, 1, 1.0, 1e6, 1e15, 5e-324])
    junk = number | st.booleans() | st.none() | st.text(max_size=3) | st.lists(number, max_size=2)
    known = parameters(methods.METHODS[row.name].params)
    sensible = st.sampled_from([1, 2.5, 4, 32, "auto", "stack", "turns", "uni", True, [1.5] * 64])
    raw = {name: data.draw(sensible | junk) for name in known if data.draw(st.booleans())}
    try:
        params = methods.make_params(row.name, {**row.minimal, **raw})
        resolved = methods.resolve(LLAMA, row.name, params, data.draw(st.integers(1, 2**40)))
    except MethodError as error:
        refusal(error)
    else:
        assert np.isfinite(resolved.scheme.rotation.inv_freq).all()


# What only the geometry or the length can refuse.


def geometry(**changes: Any) -> RopeGeometry:
    return dataclasses.replace(LLAMA, **changes)


UNRESOLVABLE: list[tuple[str, dict[str, Any], RopeGeometry, str]] = [
    (
        "longrope",
        {"factor": 2, "long_factor": [1, 2, 3]},
        LLAMA,
        "longrope: long_factor has 3 numbers, but this model rotates 64 pairs (rotary_dim 128); "
        "give 64, or leave long_factor out for the default list.",
    ),
    (
        "longrope",
        {"factor": 2, "original_max_position_embeddings": 1, "long_factor": [1] * 64},
        LLAMA,
        "longrope: a window of 1 token has no attention_factor (ln 1 = 0); "
        "give attention_factor, or the trained window as original_max_position_embeddings.",
    ),
    (
        "ntk_aware",
        {"factor": 2},
        geometry(rotary_dim=2),
        "ntk_aware: rotary_dim=2 is one pair, and the exponent 2i/(d-2) needs two; use the method 'linear'.",
    ),
    (
        "dynamic_ntk",
        {"factor": 2},
        geometry(rotary_dim=2),
        "dynamic_ntk: rotary_dim=2 is one pair, and the exponent 2i/(d-2) needs two; use the method 'linear'.",
    ),
    (
        "yarn",
        {"factor": 2},
        geometry(max_position_embeddings=3),
        "yarn: beta_fast=32 and beta_slow=1 leave no ramp in a window of 3 tokens (rope_theta 500000, "
        "rotary_dim 128); use ramp: turns, or other bounds.",
    ),
    (
        "yarn",
        {"factor": 2, "beta_fast": 24, "beta_slow": 2, "truncate": False},
        geometry(rotary_dim=4, rope_theta=100.0, max_position_embeddings=150_797),
        "yarn: beta_fast=24 and beta_slow=2 leave no ramp in a window of 150797 tokens (rope_theta 100, "
        "rotary_dim 4); use ramp: turns, or other bounds.",
    ),
    (
        "mrrope",
        {"factor": 2},
        geometry(max_position_embeddings=6),
        "mrrope: a window of 6 tokens is less than one turn of the fastest pair (2 pi tokens); "
        "give the trained window as original_max_position_embeddings.",
    ),
    (
        "linear",
        {"factor": "auto", "original_max_position_embeddings": 1},
        LLAMA,
        f"linear: factor=8000000.0 {FACTOR}",
    ),
]


@pytest.mark.parametrize(("method", "raw", "where", "sentence"), UNRESOLVABLE, ids=[row[0] for row in UNRESOLVABLE])
def test_resolve_refuses(method: str, raw: dict[str, Any], where: RopeGeometry, sentence: str) -> None:
    with pytest.raises(MethodError) as caught:
        methods.resolve(where, method, methods.make_params(method, raw), 8_000_000)
    assert refusal(caught.value) == sentence


@pytest.mark.parametrize("length", [0, -5, True, 4096.0, "4096"])
def test_resolve_refuses_a_length_that_is_none(length: Any) -> None:
    with pytest.raises(MethodError) as caught:
        methods.resolve(LLAMA, "linear", Linear(factor=2), length)
    assert refusal(caught.value) == f"linear: length={length!r} must be a whole number of tokens >= 1; give one."


def test_resolve_refuses_the_parameters_of_another_method() -> None:
    with pytest.raises(MethodError) as caught:
        methods.resolve(LLAMA, "linear", Abf(rope_theta=1e6), 4096)
    assert refusal(caught.value) == (
        "linear: takes Linear, not Abf; make its parameters with make_params('linear', ...)."
    )


def test_a_function_sees_only_numbers() -> None:
    """Called without resolve, a method says so instead of guessing."""
    with pytest.raises(MethodError) as caught:
        methods.METHODS["linear"].function(LLAMA, Linear(factor="auto"), 4096)
    assert refusal(caught.value) == "linear: factor='auto' is not resolved; call methods.resolve."
    with pytest.raises(MethodError) as caught:
        methods.METHODS["yarn"].function(LLAMA, Yarn(factor=2), 4096)
    assert refusal(caught.value) == ("yarn: original_max_position_embeddings is not resolved; call methods.resolve.")


# What ships and cannot be: the model's fault, so a ModelError, and the remedy is its config.json.

UNSHIPPABLE: list[tuple[dict[str, Any], str]] = [
    (
        {"rope_type": "su"},
        "rope_parameters: rope_type='su' is none that ropewalk can resolve (default, linear, dynamic, ntk_alpha, yarn, "
        "longrope, llama3, proportional); mend the model's config.json, or choose another model.",
    ),
    (
        {"type": ["mrope"]},
        "rope_parameters: rope_type=['mrope'] is none that ropewalk can resolve (default, linear, dynamic, ntk_alpha, "
        "yarn, longrope, llama3, proportional); mend the model's config.json, or choose another model.",
    ),
    (
        {"rope_type": "linear"},
        "rope_parameters of rope_type 'linear': factor is missing; mend the model's config.json.",
    ),
    (
        {"rope_type": "linear", "scaling_factor": 2.0},
        "rope_parameters of rope_type 'linear': factor is missing; mend the model's config.json.",
    ),
    (
        {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0},
        "rope_parameters of rope_type 'llama3': low_freq_factor is missing; mend the model's config.json.",
    ),
    (
        {"rope_type": "longrope", "factor": 8.0, "short_factor": [1.0] * 64},
        "rope_parameters of rope_type 'longrope': long_factor is missing; mend the model's config.json.",
    ),
    (
        {"rope_type": "longrope", "factor": 8.0, "short_factor": [1.0] * 64, "long_factor": [1.0] * 48},
        "rope_parameters of rope_type 'longrope': longrope: long_factor has 48 numbers, but this model rotates 64 "
        "pairs (rotary_dim 128); mend the model's config.json.",
    ),
    (
        {"rope_type": "yarn", "factor": 0.5},
        "rope_parameters of rope_type 'yarn': yarn: factor=0.5 must be a number >= 1 and <= 1e+06 or 'auto' (s, "
        "target length / trained window; 'auto' takes it from each measured length); mend the model's config.json.",
    ),
    (
        {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": "4096"},
        "rope_parameters of rope_type 'yarn': yarn: original_max_position_embeddings='4096' must be a whole number "
        ">= 1 and <= 1e+15 or null (trained window L0 in tokens; null takes the model's); "
        "mend the model's config.json.",
    ),
    (
        {
            "rope_type": "longrope",
            "factor": 1.0,
            "short_factor": [1.0] * 64,
            "long_factor": [1.0] * 64,
            "short_mscale": 1.24,
            "long_mscale": 1.24,
        },
        "rope_parameters: short_mscale=1.24 contradicts attention_factor 1, and engines differ in which one they "
        "read; mend the model's config.json so that both are the same number.",
    ),
]


@pytest.mark.parametrize(("rope", "sentence"), UNSHIPPABLE, ids=[str(n) for n in range(len(UNSHIPPABLE))])
@pytest.mark.parametrize(("method", "raw"), [("none", {}), ("linear", {"factor": 2, "compose": "stack"})])
def test_a_rotation_that_ships_broken_is_refused(
    method: str, raw: dict[str, Any], rope: dict[str, Any], sentence: str
) -> None:
    broken = geometry(rope_parameters=rope)
    with pytest.raises(ModelError) as caught:
        methods.resolve(broken, method, methods.make_params(method, raw), 8192)
    assert refusal(caught.value) == sentence


def test_a_broken_scaling_does_not_stop_a_method_that_replaces_it() -> None:
    broken = geometry(rope_parameters={"rope_type": "su"})
    plain = methods.resolve(LLAMA, "linear", Linear(factor=2), 8192)
    assert methods.resolve(broken, "linear", Linear(factor=2), 8192) == plain


@pytest.mark.parametrize("name", methods.registered())
def test_null_is_taken_where_it_stands_for_the_default_alone(name):
    """What is not given may be null; a number in its place would be compared with None."""
    for parameter in parameters(methods.registered()[name].params).values():
        if parameter.default is not None:
            with pytest.raises(MethodError, match=f"{name}: {parameter.name}=None must be"):
                parameter.admit(None, name)
