"""Findings about what a configuration saw before it was measured, and on which model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.stats.findings.finding import Finding, listed
from ropewalk.stats.measured import Measured

TUNED_ON, WEIGHTS = "tuned_on", "weights_sha256"
"""The keys of a parameter's content under which the SHA-256 of documents, and of weights, stand."""


def tuned_on(run: Measured) -> list[Finding]:
    """Configurations that were found on documents of this very run."""
    ours = {str(each["sha256"]): str(each.get("cluster", each["id"])) for each in run.meta.get("documents") or ()}
    asked = {row.label: row.asked for row in run.rows}
    found = {label: [ours[each] for each in _documents(values) if each in ours] for label, values in asked.items()}
    return [_finding(label, seen, len(set(ours.values()))) for label, seen in found.items() if seen]


def other_weights(run: Measured) -> list[Finding]:
    """Configurations that were found for other weights than those of this run."""
    ours = str((run.meta.get("model") or {}).get("weights_sha256"))
    held = {row.label: _said(row.asked, WEIGHTS) for row in run.rows}
    return [_of_another(label, theirs[0], ours) for label, theirs in held.items() if theirs and theirs != [ours]]


def _of_another(label: str, theirs: str, ours: str) -> Finding:
    return Finding(
        kind="tuned_on_other_weights",
        sentence=f"{label} was tuned on weights with the SHA-256 {theirs[:16]}, and {ours[:16]} are measured here; "
        "unless they are the same model in another file, it says nothing of this one: tune this one.",
        evidence={"configuration": label, "tuned_on": theirs, "measured": ours},
        severity="warning",
    )


def _documents(asked: Mapping[str, Any]) -> list[str]:
    """What a configuration says that it was found on."""
    return [str(each) for documents in _said(asked, TUNED_ON) for each in documents]


def _said(asked: Mapping[str, Any], key: str) -> list[Any]:
    """What the contents of a configuration's parameters hold under a key."""
    return [value[key] for value in asked.values() if isinstance(value, Mapping) and key in value]


def _finding(label: str, seen: list[str], count: int) -> Finding:
    return Finding(
        kind="tuned_on_these",
        sentence=f"{label} was tuned on {len(seen)} of the {count} documents that are measured here ({listed(seen)}), "
        "which flatters its losses; measure on others before you choose it.",
        evidence={"configuration": label, "tuned_on": seen, "seen": len(seen), "documents": count},
        severity="warning",
    )
