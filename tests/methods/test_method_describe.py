"""What a method says of itself, in JSON and in docs/methods.md."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from ropewalk import methods
from ropewalk.methods.method import parameters

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", methods.METHODS)
def test_description_is_json_and_complete(name: str) -> None:
    described = json.loads(json.dumps(methods.describe(name)))
    assert described["name"] == name
    assert described["summary"].endswith(".")
    assert described["formula"]
    assert described["paper"]
    fields = [field.name for field in dataclasses.fields(methods.METHODS[name].params)]
    assert sorted(p["name"] for p in described["parameters"]) == sorted(fields)
    for parameter in described["parameters"]:
        assert set(parameter) == {"name", "type", "range", "required", "default", "doc"}
        assert parameter["doc"]
        assert parameter["range"]


def test_one_description_in_full() -> None:
    assert methods.describe("abf") == {
        "name": "abf",
        "summary": "Before continued pretraining on long text; without any training use ntk_aware to choose the base.",
        "formula": "lambda_i = (b'/b)^(2i/d), b' = rope_theta; A = 1",
        "paper": "Xiong et al. 2023, arXiv:2309.16039",
        "hugging_face": "default",
        "parameters": [
            {
                "name": "rope_theta",
                "type": "number",
                "range": "a number > 1 and <= 1e+15",
                "required": True,
                "default": None,
                "doc": "the new base b'",
            },
            {
                "name": "original_max_position_embeddings",
                "type": "integer",
                "range": "a whole number >= 1 and <= 1e+15 or null",
                "required": False,
                "default": None,
                "doc": "trained window L0 in tokens; null takes the model's",
            },
            {
                "name": "compose",
                "type": "string",
                "range": "'replace' or 'stack'",
                "required": False,
                "default": "replace",
                "doc": "replace the scaling that the checkpoint ships, or stack on top of it",
            },
            {
                "name": "temperature",
                "type": "number",
                "range": "a number >= 0.001 and <= 1000 or 'logn' or 'llama4' or 'ministral' or null",
                "required": False,
                "default": None,
                "doc": "tau(i), multiplies the query at position i: a formula's name or a constant; null leaves what "
                "ships",
            },
        ],
    }


@pytest.mark.parametrize("name", methods.METHODS)
def test_defaults_are_what_leaving_out_gives_and_required_ones_have_a_remedy(name: str) -> None:
    for parameter in parameters(methods.METHODS[name].params).values():
        if parameter.required:
            assert parameter.kind.remedy
        else:
            assert parameter.admit(parameter.default, name) == parameter.default


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_page_has_a_section_with_every_parameter_paper_and_default(name: str) -> None:
    section = re.search(rf"^## `{name}`$(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert section, f"docs/methods.md has no section ## `{name}`"
    text = section[1]
    method = methods.METHODS[name]
    for number in re.findall(r"arXiv:([\d.]+\d)", method.paper):
        assert number in text
    shared = {"factor", "original_max_position_embeddings", "compose", "temperature"}
    for parameter in parameters(method.params).values():
        if parameter.name in shared and parameter.name != "factor":
            continue
        assert f"`{parameter.name}`" in text
        if parameter.name not in shared and not parameter.required and parameter.default is not None:
            assert f"{parameter.default}".lower().removesuffix(".0") in text.lower()
