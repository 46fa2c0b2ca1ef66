"""Parameters in and out of plain values: YAML mapping -> Params, a grid -> many Params, Params -> JSON values."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from ropewalk.errors import MethodError, nearest, short
from ropewalk.methods.method import Method, Params, parameters
from ropewalk.methods.parameters import Numbers

OTHER_NAMES = {
    "scaling_factor": ("factor",),
    "scale": ("factor",),
    "alpha": ("beta_slow", "low_freq_factor", "factor"),
    "beta": ("beta_fast", "high_freq_factor"),
    "base": ("rope_theta",),
    "theta": ("rope_theta",),
    "window": ("original_max_position_embeddings",),
    "attn_factor": ("attention_factor",),
}
"""What papers and other tools call our parameters, where spelling would not find them; the first that exists."""

Raw = Mapping[str, object]


def read(entry: Method, raw: Raw) -> Params:
    """One Params from values as YAML or JSON give them: integers become floats, lists become tuples.

    Raises:
        MethodError: a name that the method does not have, a value out of range, or a required one missing.
    """
    known = parameters(entry.params)
    _check_names(entry, raw)
    for parameter in known.values():
        if parameter.required and parameter.name not in raw:
            raise MethodError(
                f"{entry.name}: {parameter.name} is missing ({parameter.kind.doc}); give {parameter.kind.range}."
            )
    return entry.params(**{name: known[name].admit(value, entry.name) for name, value in raw.items()})


def expand(entry: Method, raw: Raw) -> tuple[Params, ...]:
    """Every combination of a grid, in written order, without duplicates.

    A scalar is one value, a list is an axis; for list-valued parameters (long_factor) a flat list is one value
    and a list of lists an axis. The first name written varies slowest.

    Raises:
        MethodError: as read(); also an empty axis.
    """
    _check_names(entry, raw)
    known = parameters(entry.params)
    axes = [_axis(entry, name, value, listed=isinstance(known[name].kind, Numbers)) for name, value in raw.items()]
    combinations = itertools.product(*axes)
    return tuple(dict.fromkeys(read(entry, dict(zip(raw, values, strict=True))) for values in combinations))


def _axis(entry: Method, name: str, value: object, listed: bool) -> list[object]:
    if not isinstance(value, (list, tuple)):
        return [value]
    if not value:
        raise MethodError(f"{entry.name}: {name}=[] is an empty list; give at least one value, or leave {name} out.")
    nested = any(isinstance(each, (list, tuple)) for each in value)
    return list(value) if nested or not listed else [value]


def plain(params: Params) -> dict[str, Any]:
    """The parameters that differ from their default, as JSON values in a stable order; read() takes them back."""
    known = parameters(type(params))
    values = {name: getattr(params, name) for name in known}
    return {name: known[name].kind.plain(value) for name, value in values.items() if value != known[name].default}


def inline(entry: Method, raw: object) -> object:
    """A grid, or a list of them, with the content of files in place of their paths; what is no grid stays as it is.

    Raises:
        MethodError: a file that cannot be read.
    """
    if isinstance(raw, list):
        return [inline(entry, each) for each in raw]
    if not isinstance(raw, Mapping):
        return raw
    return inlined(entry, raw)


def inlined(entry: Method, raw: Raw) -> dict[str, object]:
    """One mapping of that.

    Raises:
        MethodError: a file that cannot be read.
    """
    known = parameters(entry.params)
    return {name: known[name].kind.inline(value) if name in known else value for name, value in raw.items()}


def describe(entry: Method) -> dict[str, Any]:
    """A method as JSON values: what `ropewalk methods --json` prints."""
    return {
        "name": entry.name,
        "summary": entry.summary,
        "formula": entry.formula,
        "paper": entry.paper,
        "hugging_face": entry.hugging_face,
        "parameters": [
            {
                "name": parameter.name,
                "type": parameter.kind.type,
                "range": parameter.kind.range,
                "required": parameter.required,
                "default": None if parameter.required else parameter.default,
                "doc": parameter.kind.doc,
            }
            for parameter in parameters(entry.params).values()
        ],
    }


def _check_names(entry: Method, raw: object) -> None:
    if not isinstance(raw, Mapping):
        raise MethodError(
            f"{entry.name}: parameters must be a mapping of names to values, not {short(raw)}; "
            f"write {entry.name}: {{}} for the defaults."
        )
    known = parameters(entry.params)
    unknown = next((name for name in raw if name not in known), None)
    if unknown is None:
        return
    if not known:
        raise MethodError(f"{entry.name}: {short(unknown)} is not a parameter, {entry.name} takes none; leave it out.")
    near = did_you_mean(unknown, known, OTHER_NAMES)
    raise MethodError(f"{entry.name}: {short(unknown)} is not a parameter{near} (all: {', '.join(known)}).")


def did_you_mean(word: object, names: Iterable[str], other_names: Mapping[str, tuple[str, ...]]) -> str:
    """'; did you mean X' for a misspelt or foreign name, else nothing."""
    near = nearest(word, names, other_names, cutoff=0.5)
    return f"; did you mean {near!r}" if near else ""
