"""What pydantic refuses, in one sentence: the value, its place, the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from pydantic import ValidationError

from ropewalk.errors import nearest, short

Place: TypeAlias = tuple[int | str, ...]
"""Keys and indices from the outermost mapping to a value."""

SENTENCES: Mapping[str, str] = {
    "bool_type": "{where}={value}: must be true or false.",
    "dict_type": "{where}={value}: must be a mapping.",
    "known": "known keys: {known}.",
    "near": "did you mean {near}?",
    "finite_number": "{where}={value}: must be a finite number.",
    "float_type": "{where}={value}: must be a number.",
    "int_type": "{where}={value}: must be a whole number.",
    "list_type": "{where}={value}: must be a list, such as [2048, 4096].",
    "missing": "the key {where} is missing; add it.",
    "model_type": "{where}={value}: must be a mapping, {{}} for the defaults.",
    "string_type": "{where}={value}: must be text.",
    "unknown": "unknown key {where}={value}; {hint}",
    "too_short": "{where}={value}: must hold at least one value.",
}
"""Sentences by pydantic's type of error, where its own would speak of classes; `near` and `known` make the hint."""
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls a key that does not exist: in a model, and in a dataclass; `unknown` in SENTENCES."""
OTHERWISE = "{where}={value}: {message}."


def tokens(value: object) -> object:
    """A length in tokens where it is written with k or K (of 1024), such as `32k`; anything else as it is."""
    found = re.fullmatch(r"([0-9]{1,6})[kK]", value) if isinstance(value, str) else None
    return value if found is None else int(found[1]) * 1024


def sentence(
    error: ValidationError, known: Callable[[Place], Iterable[str]], words: Mapping[str, str] | None = None
) -> str:
    """One sentence about the first mistake; an unknown key comes first, as it may be why another one is missing.

    Args:
        error: what pydantic raised.
        known: the keys that exist at a place.
        words: sentences that replace those of SENTENCES, as format strings with where, value, message and hint.
    """
    mistakes = error.errors(include_url=False)
    first = next((each for each in mistakes if each["type"] in UNKNOWN), mistakes[0])
    kind = "unknown" if first["type"] in UNKNOWN else first["type"]
    *_, last = place = first["loc"] or ("",)
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not first["loc"]:
        return f"{message}."
    said = {**SENTENCES, **(words or {})}
    names = list(known(place[:-1])) if kind == "unknown" else []
    near = nearest(last, names)
    return said.get(kind, OTHERWISE).format(
        where=".".join(map(str, place)),
        value=shown(first.get("input")),
        message=message,
        hint=said["near" if near else "known"].format(near=near, known=", ".join(names)),
    )


def shown(value: object) -> str:
    """A value as it is written, cut to 80 characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return short(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
