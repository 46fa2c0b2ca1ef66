"""The JSON schema of experiment files, and the page that is made of it."""

from __future__ import annotations

import sys
from pathlib import Path

import jsonschema
import pytest

from ropewalk.experiment import presets, schema
from ropewalk.experiment.described import json_schema
from ropewalk.methods import registered

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))


@pytest.fixture(scope="module")
def check():
    found = json_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def files():
    yield from ((name, presets.text(name)) for name in presets.names())
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        if "\nlengths:" in (text := path.read_text(encoding="utf-8")):  # a cluster's file is another thing
            yield path.name, text


@pytest.mark.parametrize(("name", "text"), list(files()))
def test_every_file_that_comes_along_is_valid(check, name, text):
    assert [error.message for error in check.iter_errors(schema.load_yaml(text, name))] == []


BASE = {"model": "strand", "lengths": [64, "4k"], "methods": {"yarn": {"factor": [2, "auto"]}}, "metrics": {}}


def test_what_the_command_line_takes_is_valid(check):
    for more in ({}, {"methods": ["none"]}, {"window": "2k"}, {"model": {"id": "x", "revision": "y"}}):
        assert check.is_valid(BASE | more), more


@pytest.mark.parametrize(
    "more",
    [{"lenghts": [64]}, {"lengths": ["4 k"]}, {"lengths": []}, {"methods": {"yran": {}}}, {"methods": {"yarn": {}}},
     {"methods": {"yarn": {"factr": 2}}}, {"documents": {"corpus": "builtin", "files": []}}, {"dtype": "int8"},
     {"metrics": {"perplexity": {"strid": 1}}}, {"model": {"revision": "x"}}, {"seed": -1}, {"tune": {"probes": 0}}],
    ids=str,
)  # fmt: skip
def test_mistakes_are_not(check, more):
    assert not check.is_valid(BASE | more)


def described(node, path=()):
    """Every key of the schema with its description."""
    if isinstance(node, dict):
        for name, key in (node.get("properties") or {}).items() if isinstance(node.get("properties"), dict) else ():
            yield (*path, name), key
        for name, inner in node.items():
            yield from described(inner, (*path, name))
    elif isinstance(node, list):
        for inner in node:
            yield from described(inner, path)


def test_every_key_is_described():
    found = dict(described(json_schema()))
    assert len(found) > 100
    silent = [
        path
        for path, key in found.items()
        if not key.get("description") and not any(r in key for r in ("$ref", "anyOf"))
    ]
    assert silent == []
    assert {path[-1] for path in found} >= set(registered()) | {"trials", "stride", "spans", "revision", "probes"}


def test_the_page_is_up_to_date():
    import experiment_keys

    assert (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8") == experiment_keys.page(), "run `make docs`"
