"""Findings about the grid that was asked for: what it cannot show whatever the numbers say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ropewalk.stats.findings.finding import Finding, listed
from ropewalk.stats.measured import NONE, TRUNCATE, Measured

LARGE_MODEL = 1_000_000_000
"""Parameters from which a model is expected to have read famous books often enough to know them by heart."""


def inside_window(run: Measured) -> list[Finding]:
    """No length lies beyond what the shipped model is meant for."""
    if not run.lengths or run.lengths[-1] > run.shipped_window:
        return []
    return [
        Finding(
            kind="inside_window",
            sentence=f"Every length (longest {run.lengths[-1]:,}) lies inside the model's window of "
            f"{run.shipped_window:,} tokens: this grid extends nothing and can only show what scaling costs.",
            evidence={"lengths": list(run.lengths), "window": run.shipped_window},
            severity="warning",
        )
    ]


def never_turned(geometry: Mapping[str, Any], asked: Iterable[tuple[str, str, Mapping[str, Any]]]) -> str | None:
    """What to know of methods that turn pairs which the model keeps still (Gemma 4); None where nothing does.

    Args:
        geometry: as a run records it.
        asked: label, method and parameters of each configuration.
    """
    rope = geometry.get("rope_parameters") or {}
    if rope.get("rope_type") != "proportional":
        return None
    still, pairs = _still(geometry)
    kept = (NONE, TRUNCATE, "proportional")
    labels = [label for label, method, values in asked if method not in kept and values.get("compose") != "stack"]
    if not still or not labels:
        return None
    return (
        f"This model does not turn {still} of its {pairs} pairs (rope_type proportional), so it never learned them "
        f"turning, as {listed(labels)} {'has' if len(labels) == 1 else 'have'} them: compose: stack leaves them still."
    )


def _still(geometry: Mapping[str, Any]) -> tuple[int, int]:
    """How many pairs a proportional rotation keeps still, of how many."""
    turned = int(geometry["rope_parameters"].get("partial_rotary_factor", 1) * geometry["rotary_dim"] // 2)
    pairs = int(geometry["rotary_dim"]) // 2
    return pairs - turned, pairs


def unlearned(run: Measured) -> list[Finding]:
    """Methods that turn pairs which the model keeps still."""
    rows = {row.label: (row.label, row.method, row.asked) for row in run.rows}
    geometry = run.meta["geometry"]
    sentence = never_turned(geometry, rows.values())
    if not sentence:
        return []
    still, pairs = _still(geometry)
    evidence = {"rope_parameters": dict(geometry["rope_parameters"]), "still": still, "pairs": pairs}
    return [Finding(kind="unlearned", sentence=sentence, evidence=evidence, severity="caution")]


def duplicates(run: Measured) -> list[Finding]:
    """Cells that are one and the same measurement."""
    groups: dict[tuple[int, str], dict[str, None]] = {}
    for row in run.rows:
        if row.method != TRUNCATE and row.fingerprint:
            groups.setdefault((row.length, row.fingerprint), {})[row.label] = None
    repeated = [
        {"length": length, "fingerprint": fingerprint, "labels": list(labels)}
        for (length, fingerprint), labels in groups.items()
        if len(labels) > 1
    ]
    if not repeated:
        return []
    largest = max(repeated, key=lambda group: len(group["labels"]))
    cells, asked = sum(len(group["labels"]) for group in repeated), sum(map(len, groups.values()))
    return [
        Finding(
            kind="duplicates",
            sentence=f"{cells} of {asked} pairs of configuration and length are only {len(repeated)} different "
            f"rotation{'s' * (len(repeated) > 1)}: at {largest['length']:,}, {listed(largest['labels'])} are one "
            "measurement, so their equal numbers confirm nothing.",
            evidence={"groups": repeated, "in_groups": cells, "rotations": len(repeated), "pairs": asked},
            severity="caution",
        )
    ]


def few_key_tokens(run: Measured) -> list[Finding]:
    """LongPPL has no value where the evaluator found almost no key tokens."""
    reasons: dict[int, str] = {}
    for row in run.rows:
        if row.status == "too_few_key_tokens":
            reasons.setdefault(row.length, row.reason)
    if not reasons:
        return []
    length, reason = next(iter(sorted(reasons.items())))
    return [
        Finding(
            kind="few_key_tokens",
            sentence=f"LongPPL has no value at {listed([f'{x:,}' for x in sorted(reasons)])}: too few tokens depend on "
            f"the long context ({length:,}: {reason}); use more or longer documents, or a stronger evaluator.",
            evidence={"reasons": {str(x): reasons[x] for x in sorted(reasons)}},
            severity="caution",
        )
    ]


def key_tokens_end_early(run: Measured) -> list[Finding]:
    """LongPPL of a long text whose last key token comes long before its end: the evaluator saw no further."""
    remarks = {row.length: row.reason for row in run.rows if row.status == "ok" and row.reason}
    if not remarks:
        return []
    length, remark = min(remarks.items())
    return [
        Finding(
            kind="key_tokens_end_early",
            sentence=f"LongPPL at {listed([f'{x:,}' for x in sorted(remarks)])} says little about the end of the text "
            f"({length:,}: {remark}); it needs an evaluator with a longer window.",
            evidence={"remarks": {str(x): remarks[x] for x in sorted(remarks)}},
            severity="caution",
        )
    ]


def failures(run: Measured) -> list[Finding]:
    """Cells without a value, and configurations that could not be compared though they have one."""
    failed = [row for row in run.rows if row.status in ("error", "out_of_memory")]
    found = []
    if failed:
        first = failed[0]
        found.append(
            Finding(
                kind="failed_cells",
                sentence=f"{len(failed)} of {len(run.rows)} cells have no value; the first is {first.label} at "
                f"{first.length:,}, {first.metric} ({first.status}: {first.reason}).",
                evidence={
                    "failed": len(failed),
                    "asked": len(run.rows),
                    "cells": [_cell(r.label, r.length, r.metric, f"{r.status}: {r.reason}") for r in failed],
                },
                severity="warning",
            )
        )
    known = {(row.metric, row.length, row.label) for row in run.rows if row.status != "ok"}
    left_out = [
        _cell(label, length, metric, reason)
        for (metric, length), block in run.blocks.items()
        for label, reason in block.left_out.items()
        if (metric, length, label) not in known
    ]
    if left_out:
        found.append(
            Finding(
                kind="not_comparable",
                sentence=f"{len(left_out)} cell{'s take' if len(left_out) > 1 else ' takes'} no part in comparisons; "
                f"the first is {left_out[0]['label']} at {left_out[0]['length']:,}, {left_out[0]['metric']} "
                f"({left_out[0]['reason']}).",
                evidence={"left_out": len(left_out), "cells": left_out},
                severity="warning",
            )
        )
    return found


def _cell(label: str, length: int, metric: str, reason: str) -> dict[str, str | int]:
    return {"label": label, "length": length, "metric": metric, "reason": reason}


def memorised(run: Measured) -> list[Finding]:
    """Large models know the built-in texts."""
    parameters = int(run.meta.get("model", {}).get("parameters") or 0)
    documents = run.experiment.get("documents") or {}
    if documents.get("corpus") != "builtin" or parameters < LARGE_MODEL:
        return []
    return [
        Finding(
            kind="memorised",
            sentence=f"The built-in texts are famous and public, and a model of {parameters / 1e9:.1f} billion "
            "parameters has likely memorised parts of them; measure on documents of your own before you decide.",
            evidence={"parameters": parameters, "corpus": "builtin"},
            severity="caution",
        )
    ]
