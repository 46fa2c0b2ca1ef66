"""Findings about who is better than whom at a length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from ropewalk.stats.best import ASSUMING, best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.compare import Comparison, compare_to
from ropewalk.stats.findings.finding import Finding, as_json, listed, percent, share, shown, spread
from ropewalk.stats.intervals import ALPHA
from ropewalk.stats.measured import NONE, TRUNCATE, Measured
from ropewalk.stats.paired import holm

Direction = Literal["better", "worse", "unknown"]


def deciding_block(run: Measured, length: int) -> Block | None:
    """Outcomes of what decides about a length: the weightiest column that compares two configurations."""
    blocks = (run.block(column.name, length) for column in run.weightiest)
    return next((block for block in blocks if block is not None and len(block.labels) > 1), None)


def winners(run: Measured) -> list[Finding]:
    """For each length, how many configurations cannot be told apart from the best."""
    return [finding for block, alpha, lengths in questions(run) for finding in _winner(block, alpha, lengths)]


def questions(run: Measured) -> list[tuple[Block, float, int]]:
    """What decides at each length, at which alpha, and how many lengths share 5 %.

    The longest length is what the report's answer is about and has its 5 % alone; the others are one question.
    """
    blocks = [block for length in run.lengths if (block := deciding_block(run, length)) is not None]
    others = len(blocks) - 1
    return [(b, ALPHA, 1) if b is blocks[-1] else (b, ALPHA / others, others) for b in blocks]


def _winner(block: Block, alpha: float, lengths: int) -> list[Finding]:
    best = best_set(block, alpha)
    if best.winner is None or best.distinct < 2:
        return []
    length, metric, others = block.lengths[0], block.metric, len(block.labels) - 1
    same = block.same(best.winner)
    tied = [label for label in best.members[1:] if label not in same]
    value = _value(block, best.winner)
    evidence: dict[str, Any] = {
        "length": length,
        "metric": metric,
        "winner": best.winner,
        "value": value,
        "members": list(best.members),
        "same_measurement": list(same),
        "tied": len(tied),
        "others": others,
        "worse": others - len(same),
        "excluded": dict(best.excluded),
        "n": best.n,
        "distinct": best.distinct,
        "alpha": best.alpha,
        "lengths_sharing_alpha": lengths,
    }
    opening = f"At {length:,}, {best.winner} has the best {block.column.phrase} ({shown(block.column, value)})"
    if same:
        opening += (
            f", as have {listed(same)}, the same measurement"
            if len(same) > 1
            else f", as has {same[0]}, the same measurement"
        )
    if tied:
        sentence = (
            f"{opening}, but {len(tied)} of {others} others cannot be told apart from it with {best.n} "
            f"{block.column.unit}s: {listed(tied)}."
        )
        return [Finding(kind="tied_winner", sentence=sentence, evidence=evidence, severity="caution")]
    rest = f"each of the {others - len(same)} others is" if others - len(same) > 1 else f"{best.excluded[0][0]} is"
    over = f" at these {lengths} lengths" if lengths > 1 else ""
    sentence = f"{opening}, and {rest} worse (at most {share(ALPHA)} chance of any error{over}, {ASSUMING})."
    return [Finding(kind="clear_winner", sentence=sentence, evidence=evidence, severity="note")]


def smaller_than_interval(run: Measured) -> list[Finding]:
    """Lengths at which even the observed best does not differ from `none` by more than the interval."""
    found = []
    for length in run.lengths:
        block = deciding_block(run, length)
        if block is None or not block.column.is_ratio or NONE not in block.labels:
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
                sentence=f"At {length:,} even the best, {winner}, differs from none by {percent(interval.value)} in "
                f"{block.column.phrase}, less than its uncertainty ({spread(interval)}, {interval.n} documents).",
                evidence={"length": length, "metric": block.metric, "winner": winner, "ratio": as_json(interval)},
                severity="caution",
            )
        )
    return found


def dropping_the_context(run: Measured) -> list[Finding]:
    """For each length beyond the window, whether any extended configuration beats feeding only the last tokens."""
    found = against_dropping(run)
    return [
        finding
        for length, rows in found.items()
        for finding in _dropping(run.blocks[_tail(run), length], rows, sum(map(len, found.values())))
    ]


def _tail(run: Measured) -> str:
    return "" if run.tail is None else run.tail.name


def against_dropping(run: Measured) -> dict[int, tuple[Comparison, ...]]:
    """Every extended configuration against `truncate` by length beyond the window, Holm over all of them: whether
    extending beats dropping the context is one question."""
    tails = {length: block for (metric, length), block in run.blocks.items() if metric == _tail(run)}
    extended = {x: [label for label in block.labels if label not in (NONE, TRUNCATE)] for x, block in tails.items()}
    found = {
        length: compare_to(block.only([*extended[length], TRUNCATE]), TRUNCATE)
        for length, block in tails.items()
        if extended[length] and TRUNCATE in block.labels
    }
    adjusted = iter(holm([row.paired.p for rows in found.values() for row in rows if row.paired.p is not None]))
    return {
        length: tuple(row if row.paired.p is None else replace(row, adjusted_p=next(adjusted)) for row in rows)
        for length, rows in found.items()
    }


def direction(row: Comparison) -> Direction:
    """What a comparison of perplexities shows after correction."""
    if row.adjusted_p is None or row.adjusted_p > ALPHA:
        return "unknown"
    return "better" if row.paired.interval.value < 1 else "worse"


def _dropping(block: Block, rows: Sequence[Comparison], corrected: int) -> list[Finding]:
    better = [row for row in rows if direction(row) == "better"]
    lead = min(better or rows, key=lambda row: row.paired.interval.value)
    ratio = lead.paired.interval
    evidence = {
        "length": block.lengths[0],
        "best": lead.label,
        "best_tail": _value(block, lead.label),
        "truncate_tail": _value(block, TRUNCATE),
        "ratio": as_json(ratio),
        "adjusted_p": lead.adjusted_p,
        "better": [row.label for row in better],
        "compared": len(rows),
        "corrected_over": corrected,
        "alpha": ALPHA,
    }
    dropping = (
        "dropping the context, the unscaled model fed only the last half window (tail perplexity "
        f"{_value(block, lead.label):.4g} against {_value(block, TRUNCATE):.4g}, {percent(ratio.value)}, "
        f"{spread(ratio)}, {ratio.n} document{'s' * (ratio.n != 1)})"
    )
    if better:
        sentence = f"At {block.lengths[0]:,} {lead.label} beats {dropping}; {len(better)} of {len(rows)} extended "
        sentence += "configurations do."
        return [Finding(kind="better_than_dropping", sentence=sentence, evidence=evidence, severity="note")]
    worse = direction(lead) == "worse"
    verdict = "does worse than" if worse else "is not shown to beat"
    end = "extending does not pay here." if worse else "extending has not been shown to pay here."
    sentence = f"At {block.lengths[0]:,} the best of {len(rows)} extended configurations, {lead.label}, {verdict} "
    alone = "" if worse or ratio.high is None or ratio.high >= 1 else f" once corrected for {corrected} comparisons"
    sentence += f"{dropping}{alone}: {end}"
    return [Finding(kind="not_better_than_dropping", sentence=sentence, evidence=evidence, severity="warning")]


def _value(block: Block, label: str) -> float:
    """The configuration's value as the results table shows it."""
    return block.column.value(float(block.values_C[block.labels.index(label)]))
