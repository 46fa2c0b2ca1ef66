"""Sentences that follow from a run's rows, each with the numbers behind it and never without.

A new finding is one function from `Measured` to a list of `Finding` and one line of FINDERS.
"""

from __future__ import annotations

from collections.abc import Callable

from ropewalk.stats.findings import fragile, grid, groups, planning, quality, retrieval, seen, stopping, windows
from ropewalk.stats.findings.finding import Finding, Severity
from ropewalk.stats.measured import Measured

__all__ = ["FINDERS", "Finding", "Severity", "findings"]

FINDERS: tuple[Callable[[Measured], list[Finding]], ...] = (
    quality.dropping_the_context,
    seen.tuned_on,
    seen.other_weights,
    stopping.stopped,
    grid.inside_window,
    grid.unlearned,
    grid.failures,
    retrieval.baseline_fails,
    retrieval.few_trials,
    groups.hopeless,
    groups.saturated,
    groups.too_few_samples,
    planning.few_documents,
    quality.winners,
    fragile.one_document,
    fragile.ranks,
    quality.smaller_than_interval,
    planning.documents_needed,
    windows.windows,
    grid.few_key_tokens,
    grid.key_tokens_end_early,
    grid.duplicates,
    grid.memorised,
)
_ORDER: dict[Severity, int] = {"warning": 0, "caution": 1, "note": 2}


def findings(run: Measured) -> tuple[Finding, ...]:
    """Everything worth saying about a run, warnings first; the same run always says the same."""
    found = [finding for finder in FINDERS for finding in finder(run)]
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.severity]))
