"""The experiment file as a JSON schema (draft 2020-12), for editors and for docs/experiment.md; pure."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from ropewalk.corpus.chosen import SOURCES, Chosen, keys
from ropewalk.experiment.schema import MAX_LENGTH, Experiment, metrics_model
from ropewalk.methods import describe, registered
from ropewalk.model_spec import ModelSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TYPES = {"number": ["number", "string"], "integer": ["integer", "string"], "boolean": ["boolean"], "string": ["string"]}
"""Of a parameter; numbers may be words such as auto."""


SUITE = {
    "models": "In place of model: several, a run each and one page over all.",
    "where_installed": "Models of a suite that are measured where their weights are on this machine.",
}


def json_schema() -> dict[str, Any]:
    """Every key of an experiment file with its type, default and description.

    It takes whatever `plan` takes; what only code can tell (a factor below 1, a missing folder) is refused there.
    """
    found, metrics = Experiment.model_json_schema(), metrics_model().model_json_schema()
    definitions = {**found.pop("$defs"), **metrics.pop("$defs", {})}
    definitions.pop("BaseModel", None)
    own: dict[str, Any] = found["properties"]
    own["model"] |= {"anyOf": [{"type": "string"}, _model()]}
    several = {"type": "array", "items": {"anyOf": own["model"]["anyOf"]}}
    own |= {name: several | {"description": text} for name, text in SUITE.items()}
    found["required"].remove("model")
    found["anyOf"] = [{"required": [name]} for name in ("model", *SUITE)]
    own["documents"] |= {"anyOf": [_source(source) for source in SOURCES.values()], "default": {"corpus": "builtin"}}
    own["methods"] |= {"anyOf": [{"type": "array", "items": {"enum": list(registered())}}, _methods()]}
    own["metrics"] = metrics | {"description": own["metrics"]["description"]}
    for name in ("lengths", "window"):
        own[name] = _in_k(own[name])
    for name in ("documents", "methods"):
        own[name].pop("additionalProperties"), own[name].pop("type")
    return _untitled({"$schema": DIALECT, "title": "ropewalk experiment", **found, "$defs": definitions})


def _in_k(schema: dict[str, Any]) -> dict[str, Any]:
    """Lengths may be written with k."""
    length = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_LENGTH}, {"pattern": "^[0-9]{1,6}[kK]$"}]}
    if "items" in schema:
        return schema | {"items": length}
    return schema | {"anyOf": [*length["anyOf"], {"type": "null"}]}


def _model() -> dict[str, Any]:
    schema = TypeAdapter(ModelSpec).json_schema()
    words = dict(re.findall(r"^    (\w+): (.+(?:\n      .+)*)$", inspect.getdoc(ModelSpec) or "", re.MULTILINE))
    for field in dataclasses.fields(ModelSpec):
        schema["properties"][field.name] |= {"description": " ".join(words[field.name].split())}
    return schema | {"description": "The mapping form."}


def _source(source: type[Chosen]) -> dict[str, Any]:
    schema = source.model_json_schema()
    return schema | {"properties": {key: _said(schema["properties"][key]) for key in keys(source)}}


def _said(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A key that is left out rather than null."""
    if schema.get("default", 0) is not None:
        return dict(schema)
    [value] = [each for each in schema["anyOf"] if each != {"type": "null"}]
    return {"description": schema["description"], **value}


def _methods() -> dict[str, Any]:
    made = {name: _method(describe(name)) for name in registered()}
    return {"type": "object", "properties": made, "additionalProperties": False, "minProperties": 1}


def _method(known: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {each["name"]: _parameter(each) for each in known["parameters"]}
    return {
        "type": ["object", "null"],
        "description": known["summary"],
        "properties": parameters,
        "required": [each["name"] for each in known["parameters"] if each["required"]],
        "additionalProperties": False,
    }


def _parameter(known: Mapping[str, Any]) -> dict[str, Any]:
    """One value, or a list of which each makes a configuration."""
    one = {"type": [*TYPES[known["type"]], "null"]} if known["type"] in TYPES else {}
    default = {} if known["required"] else {"default": known["default"]}
    return {"anyOf": [one, {"type": "array"}], "description": f"{known['doc']}: {known['range']}", **default}


def _untitled(value: Any, *, names: bool = False) -> Any:
    """The same without the titles that pydantic makes of names; `names`: the keys are those of a file."""
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if names or k != "title" or v == "ropewalk experiment"}
        return {k: _untitled(v, names=not names and k in ("properties", "$defs")) for k, v in kept.items()}
    return [_untitled(item) for item in value] if isinstance(value, list) else value
