"""Findings about what a configuration saw before it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.stats.findings.finding import Finding, listed
from ropewalk.stats.measured import Measured

TUNED_ON = "tuned_on"
"""The key of a parameter's content under which the SHA-256 of documents stand."""


def tuned_on(run: Measured) -> list[Finding]:
    """Configurations that were found on documents of this very run."""
    ours = {str(each["sha256"]): str(each.get("cluster", each["id"])) for each in run.meta.get("documents") or ()}
    asked = {row.label: row.asked for row in run.rows}
    found = {label: [ours[each] for each in _documents(values) if each in ours] for label, values in asked.items()}
    return [_finding(label, seen, len(set(ours.values()))) for label, seen in found.items() if seen]


def _documents(asked: Mapping[str, Any]) -> list[str]:
    """What a configuration says that it was found on."""
    held = [value[TUNED_ON] for value in asked.values() if isinstance(value, Mapping) and TUNED_ON in value]
    return [str(each) for documents in held for each in documents]


def _finding(label: str, seen: list[str], count: int) -> Finding:
    return Finding(
        kind="tuned_on_these",
        sentence=f"{label} was tuned on {len(seen)} of the {count} documents that are measured here ({listed(seen)}), "
        "which flatters its losses; measure on others before you choose it.",
        evidence={"configuration": label, "tuned_on": seen, "seen": len(seen), "documents": count},
        severity="warning",
    )
