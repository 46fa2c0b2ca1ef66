"""What a pasted `rope_scaling` block of a Hugging Face configuration would be here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping

from ropewalk.methods.method import Method

TYPES = {"default": "none", "dynamic": "dynamic_ntk", "su": "longrope"}
"""The methods behind values of `rope_type` that are called otherwise here."""


def translated(block: object, methods: Iterable[Method]) -> str | None:
    """The same in an experiment file, such as `yarn: {"factor": 4.0}`; None for what is no such block."""
    if not isinstance(block, Mapping):
        return None
    named = block.get("rope_type", block.get("type"))
    method = next((m for m in methods if named == m.name or TYPES.get(str(named)) == m.name), None)
    if method is None:
        return None
    known = {field.name for field in dataclasses.fields(method.params)}
    return f"{method.name}: {json.dumps({k: v for k, v in block.items() if k in known}, default=str)}"
