"""Findings about what is found at a distance."""

from __future__ import annotations

from ropewalk.stats.column import Column
from ropewalk.stats.effective import THRESHOLD
from ropewalk.stats.findings.finding import Finding, share
from ropewalk.stats.intervals import ALPHA
from ropewalk.stats.measured import NONE, Measured, Row
from ropewalk.stats.power import smallest_mcnemar_p, trials_needed

ENOUGH_TRIALS = 20


def baseline_fails(run: Measured) -> list[Finding]:
    """The unscaled model misses much inside its own window; with it, what an unused chat template may explain."""
    column = run.retrieval
    if column is None:
        return []
    failing = [
        row
        for row in run.rows
        if (row.label, row.metric) == (NONE, column.name) and row.length <= run.shipped_window and row.value < THRESHOLD
    ]
    if not failing:
        return []
    first = min(failing, key=lambda row: row.length)
    evidence = {"length": first.length, "value": first.value, "n": first.n, "threshold": THRESHOLD}
    evidence |= {"window": run.shipped_window}
    found = [
        Finding(
            kind="baseline_fails_retrieval",
            sentence=f"The unscaled model finds {share(first.value)} of {first.n} {column.items} at "
            f"{first.length:,}, inside its window of {run.shipped_window:,}: below {share(THRESHOLD)} "
            f"{column.title} says little about scaling this model, at this length and beyond.",
            evidence=evidence,
            severity="warning",
        )
    ]
    return found + _chat_template(run, column, first)


def _chat_template(run: Measured, column: Column, row: Row) -> list[Finding]:
    """The tokenizer has a chat template and the prompts did not use it."""
    section = (run.experiment.get("metrics") or {}).get(column.name) or {}
    if not run.meta.get("model", {}).get("chat_template") or section.get("template", "none") != "none":
        return []
    return [
        Finding(
            kind="retrieval_without_chat_template",
            sentence=f"This looks like an instruct model: its tokenizer has a chat template that the prompts did not "
            f"use, and it finds {share(row.value)} of {column.items} at {row.length:,}; "
            f"try metrics: {{{column.name}: {{template: chat}}}}.",
            evidence={"chat_template": True, "template": "none", "length": row.length, "value": row.value, "n": row.n},
            severity="caution",
        )
    ]


def few_trials(run: Measured) -> list[Finding]:
    """Trials with which no result, or only a very clear one, survives correction over the grid."""
    column = run.retrieval
    cells = [row for row in run.rows if column and row.metric == column.name and row.status == "ok" and row.n > 0]
    if column is None or not cells:
        return []
    trials = min(row.n for row in cells)
    distinct = max(
        len({row.fingerprint for row in cells if row.length == length}) for length in {row.length for row in cells}
    )
    pairs = distinct * (distinct - 1) // 2
    if pairs == 0:
        return []
    needed = trials_needed(pairs, ALPHA)
    evidence = {
        "trials": trials,
        "distinct_configurations": distinct,
        "pairs": pairs,
        "clearest_p": smallest_mcnemar_p(trials),
        "clearest_adjusted_p": min(1.0, pairs * smallest_mcnemar_p(trials)),
        "one_sided_trials_needed": needed,
        "advised": ENOUGH_TRIALS,
    }
    if needed > trials:
        return [
            Finding(
                kind="few_trials",
                sentence=f"{trials} {column.title} trials cannot tell any two of {distinct} different configurations "
                f"apart: even all against none has p = {evidence['clearest_adjusted_p']:.2g} after correction over "
                f"{pairs} pairs; at least {needed} trials are needed, {ENOUGH_TRIALS} or more are advised.",
                evidence=evidence,
                severity="warning",
            )
        ]
    if trials < ENOUGH_TRIALS:
        return [
            Finding(
                kind="few_trials",
                sentence=f"With {trials} {column.title} trials, two of {distinct} configurations differ significantly "
                f"only if at least {needed} trials go one way and none the other; {ENOUGH_TRIALS} or more are advised.",
                evidence=evidence,
                severity="caution",
            )
        ]
    return []
