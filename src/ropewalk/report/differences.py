"""What differs in the provenance of two runs; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLACES = ("model", "geometry", "experiment", "attention", "bos", "evaluator", "key_tokens_up_to", "versions")
UNTOLD = ("experiment.model", "experiment.documents", "experiment.methods", "geometry.window_override")
"""Said better elsewhere, or differing without meaning anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One recorded fact that is not the same in both."""

    what: str
    a: str
    b: str


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Model first, then geometry, experiment, versions, documents."""
    ours, others = _facts(a), _facts(b)
    return tuple(
        Difference(what=name, a=_text(ours.get(name)), b=_text(others.get(name)))
        for name in dict.fromkeys([*ours, *others])
        if ours.get(name) != others.get(name) and not name.startswith(UNTOLD)
    )


def _facts(meta: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for place in PLACES for name, value in _flat(place, meta.get(place))}
    found["exact"] = (meta.get("identity") or {}).get("exact")
    found["documents"] = tuple(dict.fromkeys(str(d["sha256"])[:12] for d in meta.get("documents") or ()))
    return found


def _flat(place: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _flat(f"{place}.{key}", item)]
    return [] if value is None else [(place, value)]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return f"{len(value)} texts"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:20]}…"
