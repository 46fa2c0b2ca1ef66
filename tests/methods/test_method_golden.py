"""Every method against its paper (paper_formulas.py, 40 digits), and the twin: any 0.1 % in the code is noticed."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
from method_table import BRANCHED
from paper_formulas import FORMULAS, softmax

from ropewalk import methods
from ropewalk.errors import MethodError
from ropewalk.methods import blend
from ropewalk.methods.resolving import with_numbers
from ropewalk.rope import RopeGeometry

TOLERANCE = 1e-12
"""Relative. float64 costs 2e-16 per step, in an exponent times ln(theta) < 21, in 1/s - 1 times s <= 40."""

GEOMETRIES = [
    (64, 1e4, 2048),
    (128, 5e5, 8192),
    (80, 2.5e4, 1000),
    (16, 1e6, 131072),
    (64, 10321.273, 3612),  # 32 turns and 1 turn both fall 0.001 beyond a whole pair: 0.1 % moves the bounds
    (16, 20.0, 1800),  # the ramp is cut off at d - 1
]
STEEP = (4, 50.0, 262144)  # every pair completes 32 turns: YaRN's bounds meet at d - 1 and are 0.001 apart
CASES: list[tuple[str, dict[str, Any]]] = [
    ("linear", {"factor": 4}),
    ("ntk_aware", {"factor": 2.5}),
    ("ntk_by_parts", {"factor": 4}),
    ("ntk_by_parts", {"factor": 3, "alpha": 1.5, "beta": 16}),
    ("dynamic_ntk", {"factor": 1}),
    ("dynamic_ntk", {"factor": 4}),
    ("yarn", {"factor": 4}),
    ("yarn", {"factor": 4, "truncate": False}),
    ("yarn", {"factor": 16, "beta_fast": 24, "beta_slow": 2, "mscale": 0.707, "truncate": False}),
    ("yarn", {"factor": 40, "mscale": 1, "mscale_all_dim": 0.8}),
    ("yarn", {"factor": 8, "attention_factor": 1.3, "ramp": "turns", "beta_fast": 48}),
    ("llama3", {}),
    ("llama3", {"factor": 32, "low_freq_factor": 2, "high_freq_factor": 8}),
    ("longrope", {"factor": 8}),
    ("longrope", {"factor": 8, "attention_factor": 1.2}),
    ("longrope", {"factor": 4, "lists": True}),
    ("abf", {"rope_theta": 5e6}),
    ("mrrope", {"factor": 4}),
    ("mrrope", {"factor": 4, "mode": "uni"}),
    ("proportional", {"factor": 2, "partial_rotary_factor": 0.25}),
    ("proportional", {"partial_rotary_factor": 0.9995}),  # just under a whole pair more
    ("searched", {"lists": True}),
    ("cope", {}),
    ("cope", {"factor": 4, "on": "ntk_by_parts", "share": 0.4999}),  # just under a whole pair more
    ("ntk_fixed", {"factor": 4}),
    ("ntk_mixed", {"factor": 4}),
    ("ntk_mixed", {"factor": 8, "mixed_b": 1.5}),
    ("resonance", {"factor": 4}),
    ("resonance", {"factor": 2, "on": "ntk_aware"}),
]
FORMLESS = {"longrope", "mrrope", "searched", "cope", "ntk_fixed", "ntk_mixed", "resonance"}
"""Methods without a rope_type of their own that says the same at every length."""
IDS = [f"{name}-{n}" for n, (name, _) in enumerate(CASES)]
Golden = tuple[str, RopeGeometry, methods.Params, int, np.ndarray, float, float]


def with_lists(raw: dict[str, Any], d: int) -> dict[str, Any]:
    """`lists: True` stands for two lists of the length that this geometry needs."""
    if "lists" not in raw:
        return raw
    plain = {name: value for name, value in raw.items() if name != "lists"}
    long_factor, short_factor = ([1.0 + i / step for i in range(d // 2)] for step in (7, 100))
    return {**plain, "long_factor": long_factor, "short_factor": short_factor}


def searched_file(d: int, b: float) -> dict[str, Any]:
    """A file for this geometry."""
    divisors = [1.0 + i / 7 for i in range(d // 2)]
    return {"file": {"schema": 1, "rope_theta": b, "lambda": divisors, "attention_factor": 1.2}}


def golden(name: str, raw: dict[str, Any]) -> Iterator[Golden]:
    steep = [STEEP] if (name, raw) == ("yarn", {"factor": 4}) else []
    for d, b, window in [*GEOMETRIES, *steep]:
        for length in (window // 2, window, window + 1, 3 * window):
            given = with_lists(raw, d) if name != "searched" else searched_file(d, b)
            inv_freq, attention = FORMULAS[name](d, b, window, length, **given)
            geometry = RopeGeometry(rotary_dim=d, rope_theta=b, max_position_embeddings=window, softmax_mscale=True)
            expected = np.array([float(f) for f in inv_freq])
            sharper = softmax(given["factor"], given["mscale_all_dim"]) if "mscale_all_dim" in given else 1
            yield name, geometry, methods.make_params(name, given), length, expected, float(attention), float(sharper)


GOLDEN = [list(golden(name, raw)) for name, raw in CASES]


def check(case: Golden) -> None:
    name, geometry, params, length, inv_freq, attention, sharper = case
    rotation = methods.resolve(geometry, name, params, length).rotation
    assert np.allclose(rotation.inv_freq, inv_freq, rtol=TOLERANCE, atol=0)
    assert math.isclose(rotation.attention_factor, attention, rel_tol=TOLERANCE)
    assert math.isclose(rotation.softmax_factor, sharper, rel_tol=TOLERANCE)
    check_form(case)


def check_form(case: Golden) -> None:
    """The form in a Hugging Face configuration, as `none` reads it (and transformers: test_method_parity.py)."""
    name, geometry, params, length, inv_freq, attention, _ = case
    form, known = methods.find(name).hf, with_numbers(geometry, params, length)
    keys = None if form is None else form(geometry, known, length)
    assert (keys is None) == (name in FORMLESS or getattr(params, "ramp", "index") == "turns")
    if keys is None:
        return
    shipping = replace(geometry, rope_theta=keys.get("rope_theta", geometry.rope_theta), rope_parameters=keys)
    rotation = methods.resolve(shipping, "none", methods.make_params("none", {}), length).rotation
    assert np.allclose(rotation.inv_freq, inv_freq, rtol=TOLERANCE, atol=0)
    assert math.isclose(rotation.attention_factor, attention, rel_tol=TOLERANCE)


@pytest.mark.parametrize("cases", GOLDEN, ids=IDS)
def test_method_is_its_papers_formula(cases: list[Golden]) -> None:
    for case in cases:
        check(case)


def test_every_method_has_a_golden_case() -> None:
    assert {name for name, _ in CASES} == set(methods.METHODS) - {"none", "tuned", "truncate", *BRANCHED}


def test_rotations_of_this_release_keep_their_fingerprints() -> None:
    """Stored runs are found again by these; a change here needs a line under "Numbers" in the CHANGELOG.

    Origin: this package, where the golden values above hold.
    """
    geometry = RopeGeometry(rotary_dim=64, rope_theta=1e4, max_position_embeddings=2048)
    found = {
        name: methods.resolve(geometry, name, methods.make_params(name, raw), 8192).rotation.fingerprint
        for name, raw in reversed([("none", {}), *CASES])
        if "lists" not in raw
    }
    assert found == FINGERPRINTS


FINGERPRINTS = {
    "none": "aeb59f66becfe5c8",
    "linear": "e2348888ec662f55",
    "ntk_aware": "a0db1e0df73db9bb",
    "ntk_by_parts": "5499f62644d8d4d4",
    "dynamic_ntk": "360d8a832ee136e7",
    "yarn": "d144b00d621b42be",
    "llama3": "06ead810aced52af",
    "longrope": "9a27f240830e1ad5",
    "abf": "33b7674ea044a766",
    "mrrope": "a69c44565bbc2626",
    "proportional": "ccbc230c97e5b9c5",
    "cope": "1495593dd251457e",
    "ntk_fixed": "ab447309cc951dec",
    "ntk_mixed": "01b6c57b1a883ce4",
    "resonance": "ca4431b17ffce0de",
}

# The twin. Each arithmetic expression and each numeric constant in the code of each method is multiplied by 1.001,
# one at a time, by swapping the code object of its function; the golden values have to notice every one.

METHOD_MODULES = [
    inspect.getmodule(method.function)
    for name, method in methods.METHODS.items()
    if name not in ("none", "tuned", "truncate", *BRANCHED)
]
UNNOTICED = {
    "ramp_over_index: 0.001": "stands between two whole numbers, and no pair lies there",
    "proportional: params.partial_rotary_factor * geometry.rotary_dim // 2": "whole already, and rounded down again",
}
"""Changes of 0.1 % that cannot change a rotation, with the reason."""


def formulas() -> Iterator[FunctionType]:
    for module in dict.fromkeys([*METHOD_MODULES, blend]):
        assert isinstance(module, ModuleType)
        for function in vars(module).values():
            own = isinstance(function, FunctionType) and function.__module__ == module.__name__
            if own and function.__annotations__["return"] not in ("bool", "None"):
                yield function


class Scale(ast.NodeTransformer):
    """Multiply the n-th arithmetic expression or number by 1.001; only count them if n is None."""

    def __init__(self, wanted: int | None = None) -> None:
        self.wanted, self.seen, self.place = wanted, 0, ""

    def _maybe(self, node: ast.expr) -> ast.expr:
        self.seen += 1
        if self.seen - 1 != self.wanted:
            return node
        self.place = ast.unparse(node)
        return ast.BinOp(left=node, op=ast.Mult(), right=ast.Constant(1.001))

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return self._maybe(node)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        numeric = isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
        return self._maybe(node) if numeric and node.value != 0 else node

    def visit_If(self, node: ast.If) -> ast.If:
        refusal = all(isinstance(statement, ast.Raise) for statement in node.body)  # tested by test_method_refusals.py
        return node if refusal else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.body = [self.visit(statement) for statement in node.body]  # no defaults and no annotations
        return node


def mutants() -> Iterator[tuple[FunctionType, int, str]]:
    for function in formulas():
        counter = Scale()
        counter.visit(tree_of(function))
        for wanted in range(counter.seen):
            scale = Scale(wanted)
            scale.visit(tree_of(function))
            yield function, wanted, f"{function.__name__}: {scale.place}"


def tree_of(function: FunctionType) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def scaled(function: FunctionType, wanted: int) -> CodeType:
    tree = ast.fix_missing_locations(Scale(wanted).visit(tree_of(function)))
    namespace = dict(function.__globals__)
    exec(compile(tree, function.__code__.co_filename, "exec", flags=annotations.compiler_flag), namespace)
    return namespace[function.__name__].__code__


MUTANTS = list(mutants())


def test_there_is_something_to_scale() -> None:
    assert len(MUTANTS) > 70
    assert set(UNNOTICED) <= {place for _, _, place in MUTANTS}


@pytest.mark.parametrize(("function", "wanted", "place"), MUTANTS, ids=[place for _, _, place in MUTANTS])
def test_a_thousandth_in_any_formula_is_noticed(function: FunctionType, wanted: int, place: str) -> None:
    original = function.__code__
    function.__code__ = scaled(function, wanted)
    try:
        unnoticed = all(survives(case) for cases in likely_first(function) for case in cases)
    finally:
        function.__code__ = original
    assert unnoticed == (place in UNNOTICED)


def likely_first(function: FunctionType) -> list[list[Golden]]:
    """All golden cases, those of the method's own module first: they notice soonest."""

    def elsewhere(cases: list[Golden]) -> bool:
        return methods.METHODS[cases[0][0]].function.__module__ != function.__module__

    return sorted(GOLDEN, key=elsewhere)


def survives(case: Golden) -> bool:
    try:
        check(case)
    except (AssertionError, TypeError, ValueError, IndexError, MethodError):
        return False
    return True
