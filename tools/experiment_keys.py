"""docs/experiment.md out of the JSON schema: `make docs`, and a test that it is up to date."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ropewalk.experiment.described import json_schema

PAGE = Path(__file__).parents[1] / "docs" / "experiment.md"
HEAD = """# The experiment file

Every key, generated from the schema by `make docs`. `ropewalk init MODEL` writes a file to begin with; any key can be
replaced on the command line, such as `--set documents.count=2`. Editors complete and check files that begin with

```yaml
# yaml-language-server: $schema=experiment.schema.json
```

once `ropewalk schema > experiment.schema.json` has written that file.
"""


def page() -> str:
    """The page as Markdown."""
    schema = json_schema()
    keys, parts = schema["properties"], schema["$defs"]
    sections = [("The file", schema, "")]
    sections += [("model, as a mapping", keys["model"]["anyOf"][1], "")]
    for source in keys["documents"]["anyOf"]:
        sections.append((f"documents: {source['required'][0]}", source, ""))
    for name, options in keys["metrics"]["properties"].items():
        section = _referred(options, parts)
        sections.append((f"metrics: {name}", section, section.get("description", "")))
    tune = _referred(keys["tune"], parts)
    sections += [("tune", tune, tune["description"])]
    methods = next(each for each in keys["methods"]["anyOf"] if "properties" in each)["properties"]
    for name, method in methods.items():
        sections.append((f"methods: {name}", method, method["description"]))
    return HEAD + "".join(_section(*section, parts) for section in sections)


def _section(title: str, schema: Mapping[str, Any], said: str, parts: Mapping[str, Any]) -> str:
    rows = "".join(_rows(schema, parts))
    if not rows:
        return f"\n## {title}\n\n{' '.join(said.split())} It has no keys.\n"
    lead = f"{' '.join(said.split())}\n\n" if said else ""
    return f"\n## {title}\n\n{lead}| key | takes | default | |\n|---|---|---|---|\n{rows}"


def _rows(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    for name, key in schema.get("properties", {}).items():
        needed = name in schema.get("required", ())
        default = "must be given" if needed else f"`{json.dumps(key['default'])}`" if "default" in key else "-"
        yield f"| `{name}` | {_cell(_takes(key, parts))} | {_cell(default)} | {_cell(key.get('description', ''))} |\n"


def _takes(key: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """The values of a key in words."""
    if "anyOf" in key:
        return " or ".join(dict.fromkeys(_takes(each, parts) for each in key["anyOf"]))
    if "$ref" in key:
        return "mapping"
    if "enum" in key or "const" in key:
        return ", ".join(f"`{json.dumps(value)}`" for value in key.get("enum", [key.get("const")]))
    if "pattern" in key:
        return "`4k`"
    kinds = [key["type"]] if isinstance(key.get("type"), str) else list(key.get("type", ["anything"]))
    said = " or ".join(WORDS.get(kind, kind) for kind in kinds)
    ends = [f"{sign} {key[name]:,}" for name, sign in BOUNDS.items() if name in key]
    return f"{said} {' and '.join(ends)}" if ends else said


WORDS = {"object": "mapping", "array": "list", "string": "text", "integer": "whole number", "boolean": "true, false"}
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def _referred(key: Mapping[str, Any], parts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definition that a key, perhaps null, refers to."""
    refs = [each["$ref"] for each in (key, *key.get("anyOf", ())) if "$ref" in each]
    return parts[refs[0].rpartition("/")[2]]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
