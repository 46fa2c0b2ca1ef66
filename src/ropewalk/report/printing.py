"""Recommendations and comparisons as JSON values and as lines for a terminal; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from ropewalk.metrics import column
from ropewalk.report import wording
from ropewalk.report.compare import NOT_MEASURED, Compared, Contrast
from ropewalk.report.costs import Cost
from ropewalk.report.recommend import Candidate, Recommendation
from ropewalk.report.tables import Table
from ropewalk.report.wording import apart, measure, probability
from ropewalk.stats.intervals import ALPHA, Interval
from ropewalk.stats.measured import NONE
from ropewalk.stats.paired import Paired


def recommendation_json(answer: Recommendation, command: str | None, missing: int = 0) -> dict[str, Any]:
    """The answer for scripts; null where there is no number."""
    return {
        "target": answer.target,
        "judged_at": answer.judged_at,
        "cells_missing": missing,
        "metric": answer.column.name,
        "retrieval": None if answer.second is None else answer.second.name,
        "max_short_cost_percent": answer.bound_percent,
        "choice": _candidate(answer.choice),
        "tied": [_candidate(c) for c in answer.tied],
        "by": answer.by,
        "find_less": [_candidate(c) | {"p_holm": p} for c, p in answer.outdone],
        "min_found": answer.min_found,
        "below_min_found": [_candidate(c) for c in answer.too_few_found],
        "same_measurement": list(answer.same),
        "against_dropping_the_context": answer.dropping,
        "too_costly": [_candidate(c) for c in answer.too_costly],
        "compared": len(answer.best.members) + len(answer.best.excluded),
        "n": answer.best.n,
        "confidence": wording.confidence(answer),
        "would_change": wording.would_change(answer),
        "command": command,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "label": candidate.label,
        "method": candidate.method,
        "asked": dict(candidate.asked),
        **_interval(candidate.value),
        "against_none": _paired(candidate.against_none),
        "against_truncate": _paired(candidate.against_truncate),
        "short_cost": _cost(candidate.cost),
        "found": None if candidate.found is None else _interval(candidate.found),
    }


def recommendation_lines(
    answer: Recommendation, command: str | None, missing: str = "", settling: Sequence[str] = ()
) -> Iterator[str]:
    """The answer for people, marked where it is made of part of a run."""
    if missing:
        yield f"From part of a run: {missing}"
    yield wording.headline(answer)
    for name, value in (wording.facts(answer) | {"Confidence": wording.confidence(answer)}).items():
        yield f"  {name}: {value}"
    if answer.tied:
        yield "Not told apart from it:"
        for c in answer.tied[:10]:
            yield f"  {c.label}: {measure(answer.column, c.value)}; cost at short lengths {wording.cost(c)}"
        if len(answer.tied) > 10:
            yield f"  and {len(answer.tied) - 10} more (--json lists all)"
    changes = wording.would_change(answer)
    if changes:
        yield "What would change it:"
        yield from (f"  {text}" for text in changes)
    if settling:
        yield "What would settle it:"
        yield from (f"  {text}" for text in settling)
    if command is not None:
        yield f"{wording.deploying(answer)}:\n  {command}"
    elif answer.choice.label != NONE:
        yield (
            "It changes attention itself, which no engine's configuration says; for transformers `ropewalk export RUN "
            "--target hf --out DIR --with-code` brings code along that its reader must trust."
        )


def compared_json(found: Compared) -> dict[str, Any]:
    """A comparison for scripts."""
    return {
        "differences": [{"what": d.what, "a": d.a, "b": d.b} for d in found.differences],
        "documents_in_both": found.documents,
        "not_compared": dict(found.not_compared),
        "remark": found.remark,
        "cells": [_contrast(c) for c in found.contrasts],
    }


def compared_lines(found: Compared) -> Iterator[str]:
    """What came out in a sentence, what differs, and what could not be compared."""
    yield outcome(found)
    if not found.differences:
        yield "Provenance: nothing recorded differs."
    else:
        yield "Differs in provenance (A, B):"
        yield from (f"  {d.what}: {d.a}, {d.b}" for d in found.differences)
    yield f"Documents in both: {found.documents}"
    for name, reason in found.not_compared.items():
        if reason != NOT_MEASURED:
            yield f"Not compared: {column(name).title}, {reason}."
    if found.remark:
        yield found.remark
    yield ""


def outcome(found: Compared) -> str:
    """A comparison in a sentence."""
    told = [c for c in found.contrasts if c.adjusted_p is not None and c.adjusted_p < ALPHA]
    better = sum(_better(c) for c in told)
    same = sum(c.paired.interval.value == (1 if c.column.is_ratio else 0) for c in found.contrasts)
    cells = len(found.contrasts)
    return (
        f"Of {cells} cell{'s' * (cells != 1)} in both, B is better in {better}, worse in {len(told) - better}, equal "
        f"in {same}, and not told apart in {cells - len(told) - same} (p < {ALPHA:g}, Holm within each metric)."
    )


def _better(c: Contrast) -> bool:
    """Whether B has the better value."""
    gain = c.paired.interval.value - (1 if c.column.is_ratio else 0)
    return gain > 0 if c.column.higher_is_better else gain < 0


def compared_table(found: Compared) -> Table:
    """The cells of a comparison."""
    rows = tuple(
        (
            c.column.title,
            f"{c.length:,}",
            c.label + ("" if c.same_rotation else " (another rotation)"),
            measure(c.column, c.a),
            measure(c.column, c.b),
            apart(c.column, c.paired.interval),
            probability(c.adjusted_p),
            str(c.paired.interval.n),
        )
        for c in found.contrasts
    )
    columns = ("metric", "length", "configuration", "A", "B", "B against A", "p (Holm)", "n")
    return Table(columns=columns, rows=rows, numeric=frozenset({"length", "p (Holm)", "n"}))


def _contrast(c: Contrast) -> dict[str, Any]:
    known = {"metric": c.column.name, "length": c.length, "label": c.label, "same_rotation": c.same_rotation}
    return known | {
        "a": _interval(c.a),
        "b": _interval(c.b),
        "b_against_a": _paired(c.paired),
        "p_holm": c.adjusted_p,
    }


def _interval(interval: Interval) -> dict[str, Any]:
    ends = {"value": interval.value, "ci_low": interval.low, "ci_high": interval.high}
    return {key: _finite(x) for key, x in ends.items()} | {"n": interval.n}


def _paired(paired: Paired | None) -> dict[str, Any] | None:
    return None if paired is None else _interval(paired.interval) | {"p": paired.p}


def _cost(cost: Cost | None) -> dict[str, Any] | None:
    if cost is None:
        return None
    return (
        {"metric": cost.column.name, "length": cost.length} | _interval(cost.ratio) | {"at_most": _finite(cost.at_most)}
    )


def _finite(x: float | None) -> float | None:
    return x if x is not None and math.isfinite(x) else None
