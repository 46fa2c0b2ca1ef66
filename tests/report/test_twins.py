"""Changes of one line that would show something false: the golden study must notice each.

A change is made in the running process: the functions of the changed module lend their code to those in use.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import golden_tables
import pytest

TWINS = [
    # module, what stands there, what stands there in the twin
    ("points", '"ratio": interval.value, block.column', '"ratio": 1 / interval.value, block.column'),
    ("points", '"nll": p.nll,', '"nll": 1.1 * p.nll,'),
    ("points", '"share": sum(found) / len(found)', '"share": 0.01 * sum(found) / len(found)'),
    ("points", '"front": label in front', '"front": label not in front'),
    ("points", '"stretch": plain / turned', '"stretch": turned / plain'),
    ("points", '"leads": label in leading.values()', '"leads": label not in leading.values()'),
    ("points", "labels[int(own.losses_C.argmin())]", "labels[int(own.losses_C.argmax())]"),
    ("points", 'return {"low": interval.low if drawable', 'return {"low": interval.high if drawable'),
    (
        "charts",
        'alt.Y("log_low:Q"), alt.Y2("log_high:Q"), ink.color)',
        'alt.Y("log_low:Q"), alt.Y2("log_low:Q"), ink.color)',
    ),
    (
        "charts",
        "leading.mark_area(opacity=0.14, clip=True).encode(x, alt",
        "others.mark_area(opacity=0.14, clip=True).encode(x, alt",
    ),
    ("charts", 'x = alt.X("log_cost:Q", title', 'x = alt.X("cost:Q", title'),
    ("charts", "marks.log_axis(values) if log", "marks.log_axis(values) if not log"),
    ("charts", 'transform_filter("datum.front"), base', 'transform_filter("!datum.front"), base'),
    ("charts", 'y = alt.Y("nll:Q"', 'y = alt.Y("position:Q"'),
    ("charts", 'return alt.Y("log_ratio:Q"', 'return alt.Y("ratio:Q"'),
    ("marks", "? log(datum.{name})", "? -log(datum.{name})"),
    ("figures", "points.ratios(study.run, column.name, TRUNCATE", "points.ratios(study.run, column.name, NONE"),
    ("ranking", 'return "worse"', 'return "tied with the best"'),
    ("ranking", "math.expm1(min(optimism, 50.0))", "math.expm1(min(-optimism, 50.0))"),
    (
        "ranking",
        'f"{effective.length:,} ({stop})"',
        'f"{effective.stopped_at:,} ({stop})"',
    ),
    ("ranking", 'spelled(found, "+.2f")', 'spelled(found, "+.2f").translate({43: 45, 45: 43})'),
    ("ranking", "block.losses_C.argsort", "block.values_C[::-1].argsort"),
    ("page", "math.exp(min(v, 700.0))", "math.exp(min(-v, 700.0))"),
    (
        "page",
        "values = (row.value, row.ci_low, row.ci_high, ratio)",
        "values = (row.value, row.ci_high, row.ci_low, ratio)",
    ),
    ("costs", "block, ratio = max(ratios", "block, ratio = min(ratios"),
    (
        "wording",
        "[{percent(interval.low)}, {percent(interval.high)}]",
        "[{percent(interval.high)}, {percent(interval.low)}]",
    ),
    ("recommend", "whole.paired(label, TRUNCATE)", "whole.paired(TRUNCATE, label)"),
    ("recommend", "block.paired(label, NONE) if", "block.paired(NONE, label) if"),
]


def test_the_golden_study_agrees_as_it_is():
    golden_tables.check(golden_tables.shown())


@pytest.mark.parametrize(("module", "line", "twin"), TWINS, ids=[f"{m}-{i}" for i, (m, _, _) in enumerate(TWINS)])
def test_twin(module, line, twin):
    with changed(importlib.import_module(f"ropewalk.report.{module}"), line, twin):
        noticed = False
        try:
            golden_tables.check(golden_tables.shown())
        except AssertionError:
            noticed = True
    assert noticed, f"{module}: {twin}"


@contextmanager
def changed(module: ModuleType, line: str, twin: str) -> Iterator[None]:
    """The module with one text in its source replaced."""
    source = inspect.getsource(module)
    assert source.count(line) == 1, f"{module.__name__} holds {source.count(line)} times: {line}"
    made: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(source.replace(line, twin), f"twin of {module.__name__}", "exec", dont_inherit=True), made)
    codes = {
        f: f.__code__ for f in vars(module).values() if isinstance(f, FunctionType) and f.__module__ == module.__name__
    }
    try:
        for function in codes:
            function.__code__ = made[function.__name__].__code__
        yield
    finally:
        for function, code in codes.items():
            function.__code__ = code
