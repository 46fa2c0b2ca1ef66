"""Findings about who is better than whom at a length."""

from __future__ import annotations

import math
from typing import Any

from ropewalk.stats.best import best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.compare import compare_to
from ropewalk.stats.findings.finding import QUALITY, WORDS, Finding, as_json, listed, percent, shown, spread
from ropewalk.stats.measured import NONE, TRUNCATE, Measured

ALPHA = 0.05


def deciding_block(run: Measured, length: int) -> Block | None:
    """Outcomes of the metric that decides about a length: the first of QUALITY that compares two configurations."""
    blocks = (run.block(metric, length) for metric in QUALITY)
    return next((block for block in blocks if block is not None and len(block.labels) > 1), None)


def winners(run: Measured) -> list[Finding]:
    """For each length, how many configurations cannot be told apart from the best."""
    return [finding for length in run.lengths if (block := deciding_block(run, length)) for finding in _winner(block)]


def _winner(block: Block) -> list[Finding]:
    best = best_set(block, ALPHA)
    if best.winner is None or best.distinct < 2:
        return []
    length, metric, tied = block.lengths[0], block.metric, len(best.members) - 1
    value = _value(block, best.winner)
    evidence: dict[str, Any] = {
        "length": length,
        "metric": metric,
        "winner": best.winner,
        "value": value,
        "members": list(best.members),
        "excluded": dict(best.excluded),
        "n": best.n,
        "distinct": best.distinct,
        "alpha": best.alpha,
    }
    units = "trials" if block.counts else "documents"
    opening = f"At {length}, {best.winner} has the best {WORDS[metric]} ({shown(metric, value)})"
    if tied:
        sentence = (
            f"{opening}, but {tied} of {len(block.labels) - 1} others cannot be told apart from it with {best.n} "
            f"{units}: {listed(best.members[1:])}."
        )
        return [Finding(kind="tied_winner", sentence=sentence, evidence=evidence, severity="caution")]
    sentence = f"{opening}, and each of the {len(block.labels) - 1} others is worse (at most 5 % chance of any error)."
    return [Finding(kind="clear_winner", sentence=sentence, evidence=evidence, severity="note")]


def smaller_than_interval(run: Measured) -> list[Finding]:
    """Lengths at which even the observed best does not differ from `none` by more than the interval."""
    found = []
    for length in run.lengths:
        block = deciding_block(run, length)
        if block is None or block.metric in ("passkey", "bits_per_byte") or NONE not in block.labels:
            continue
        winner = block.labels[int(block.losses_C.argmin())]
        interval = block.paired(winner, NONE).interval
        if winner == NONE or interval.low is None or interval.high is None or not interval.low <= 1 <= interval.high:
            continue
        if interval.low == interval.high:
            continue
        found.append(
            Finding(
                kind="smaller_than_interval",
                sentence=f"At {length} even the best, {winner}, differs from none by {percent(interval.value)} in "
                f"{WORDS[block.metric]}, less than its uncertainty ({spread(interval)}, {interval.n} documents).",
                evidence={"length": length, "metric": block.metric, "winner": winner, "ratio": as_json(interval)},
                severity="caution",
            )
        )
    return found


def dropping_the_context(run: Measured) -> list[Finding]:
    """For each length beyond the window, whether any extended configuration beats feeding only the last tokens."""
    blocks = [block for (metric, _), block in run.blocks.items() if metric == "tail" and TRUNCATE in block.labels]
    return [finding for block in blocks for finding in _dropping(block)]


def _dropping(block: Block) -> list[Finding]:
    extended = [label for label in block.labels if label not in (NONE, TRUNCATE)]
    if not extended:
        return []
    rows = compare_to(block.only([*extended, TRUNCATE]), TRUNCATE)
    best = min(rows, key=lambda row: row.paired.interval.value)
    better = [
        row.label
        for row in rows
        if row.adjusted_p is not None and row.adjusted_p <= ALPHA and row.paired.interval.value < 1
    ]
    ratio = best.paired.interval
    evidence = {
        "length": block.lengths[0],
        "best": best.label,
        "best_tail": _value(block, best.label),
        "truncate_tail": _value(block, TRUNCATE),
        "ratio": as_json(ratio),
        "adjusted_p": best.adjusted_p,
        "better": better,
        "compared": len(extended),
    }
    opening = f"At {block.lengths[0]} the best of {len(extended)} extended configurations, {best.label}"
    against = (
        f"tail perplexity {_value(block, best.label):.4g} against {_value(block, TRUNCATE):.4g}, "
        f"{percent(ratio.value)}, {spread(ratio)}, {ratio.n} document{'s' * (ratio.n != 1)}"
    )
    if better:
        sentence = f"{opening}, beats dropping the context ({against}); {len(better)} of {len(extended)} do."
        return [Finding(kind="better_than_dropping", sentence=sentence, evidence=evidence, severity="note")]
    sentence = (
        f"{opening}, is not shown to beat dropping the context, the unscaled model fed only the last half window "
        f"({against}): extending has not been shown to pay here."
    )
    return [Finding(kind="not_better_than_dropping", sentence=sentence, evidence=evidence, severity="warning")]


def _value(block: Block, label: str) -> float:
    """The configuration's value as the results table shows it."""
    value = float(block.values_C[block.labels.index(label)])
    return value if block.metric in ("passkey", "bits_per_byte") or value > 700 else math.exp(value)
