"""What pydantic refuses, in one sentence: the value, its place, the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pydantic import ValidationError

from ropewalk.errors import nearest, short

Place: TypeAlias = tuple[int | str, ...]
"""Keys and indices from the outermost mapping to a value."""

SENTENCES: Mapping[str, str] = {
    "known": "leave it out; known keys: {known}.",
    "missing": "the key {where} is missing; add it.",
    "near": "did you mean {near}?",
    "unknown": "unknown key {where}={value}; {hint}",
    "value_error": "{where}={value}: {message}.",
}
"""Sentences by pydantic's type of error; `near` and `known` make the hint."""
WANTED: Mapping[str, str] = {
    "bool_type": "must be true or false; write one of these",
    "dict_type": "must be a mapping; write {{key: value}}",
    "finite_number": "must be a finite number; write one such as 1.5",
    "float_parsing": "must be a number; write one such as 1.5",
    "float_type": "must be a number; write one such as 1.5",
    "greater_than": "is too small; write more than {gt}",
    "greater_than_equal": "is too small; write {ge} or more",
    "int_parsing": "must be a whole number; write digits alone",
    "int_type": "must be a whole number; write digits alone",
    "less_than": "is too large; write less than {lt}",
    "less_than_equal": "is too large; write {le} or less",
    "list_type": "must be a list; write it in brackets, such as [2048, 4096]",
    "literal_error": "must be {expected}; write one of these",
    "model_type": "must be a mapping; write {{}} for the defaults",
    "string_type": "must be text; put it in quotes",
    "too_short": "must hold at least one value; add one",
}
"""What is wrong with a value and what to write instead, by pydantic's type of error, where its own words would speak of
classes or of a bound alone."""
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls a key that does not exist: in a model, and in a dataclass; `unknown` in SENTENCES."""


def tokens(value: object) -> object:
    """A length in tokens where it is written with k or K (of 1024), such as `32k`; anything else as it is."""
    found = re.fullmatch(r"([0-9]{1,6})[kK]", value) if isinstance(value, str) else None
    return value if found is None else int(found[1]) * 1024


def wanted(mistake: Mapping[str, Any]) -> str:
    """What is wrong with a value and what to write instead, to follow the value: one entry of pydantic's errors."""
    told = {"message": mistake["msg"].replace("Input should be", "must be"), **mistake.get("ctx", {})}
    return WANTED.get(mistake["type"], "{message}").format(**told)


def sentence(
    error: ValidationError, defaults: Callable[[Place], Mapping[str, Any]], words: Mapping[str, str] | None = None
) -> str:
    """One sentence about the first mistake; an unknown key comes first, as it may be why another one is missing.

    Args:
        error: what pydantic raised.
        defaults: the keys that exist at a place, with what they are if left out; ... for those that may not be.
        words: sentences that replace those of SENTENCES, as format strings with where, value, message and hint.
    """
    mistakes = error.errors(include_url=False)
    first = next((each for each in mistakes if each["type"] in UNKNOWN), mistakes[0])
    *_, last = place = first["loc"] or ("",)
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"{message}."
    said = {**SENTENCES, **(words or {})}
    names = defaults(place[:-1]) if isinstance(last, str) else {}
    near = nearest(last, names)
    kind = "unknown" if first["type"] in UNKNOWN else first["type"]
    if kind not in said:
        kind, message = "value_error", wanted(first) + _or_leave(last, names)
    return said[kind].format(
        where=".".join(map(str, place)),
        value=shown(first.get("input")),
        message=message,
        hint=said["near" if near else "known"].format(near=near, known=", ".join(names)),
    )


def _or_leave(key: int | str, defaults: Mapping[str, Any]) -> str:
    """The other way out of a refused value: leave its key out, where that is possible."""
    default = defaults.get(str(key), ...)
    if default is ...:
        return ""
    return f", or leave {key} out" + (f" for {shown(default)}" if default is not None else "")


def shown(value: object) -> str:
    """A value as it is written, cut to 80 characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return short(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
