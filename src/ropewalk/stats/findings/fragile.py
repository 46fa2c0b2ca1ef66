"""Findings about how firm a best set is: what one document does to it, and what ranks say."""

from __future__ import annotations

from ropewalk.stats.best import best_set
from ropewalk.stats.blocks import Block
from ropewalk.stats.findings.finding import Finding, listed
from ropewalk.stats.findings.quality import questions
from ropewalk.stats.measured import Measured
from ropewalk.stats.robust import by_ranks, most_influential


def one_document(run: Measured) -> list[Finding]:
    """Lengths at which the best set would be another one had one document not been measured."""
    return [finding for block, alpha, _ in questions(run) for finding in _one(block, alpha)]


def _one(block: Block, alpha: float) -> list[Finding]:
    most = most_influential(block, alpha)
    if most is None:
        return []
    members = best_set(block, alpha).members
    return [
        Finding(
            kind="one_document",
            sentence=f"At {block.lengths[0]:,} {len(members)} of {len(block.labels)} configurations could be the best "
            f"({listed(members)}); without one document, {most.unit}, it would be {len(most.members)} "
            f"({listed(most.members)}).",
            evidence={
                "length": block.lengths[0],
                "metric": block.metric,
                "members": list(members),
                "configurations": len(block.labels),
                "could_be_best": len(members),
                "could_be_best_without": len(most.members),
                "document": most.unit,
                "without": list(most.members),
                "documents": len(block.units),
                "alpha": alpha,
            },
            severity="note",
        )
    ]


def ranks(run: Measured) -> list[Finding]:
    """Lengths at which ranks within documents draw the best set otherwise than means do."""
    return [finding for block, alpha, _ in questions(run) for finding in _ranks(block, alpha)]


def _ranks(block: Block, alpha: float) -> list[Finding]:
    best = best_set(block, alpha)
    if block.counts or best.distinct < 2 or len(block.units) < 2:
        return []
    firm = by_ranks(block, alpha)
    more = [label for label in firm if label not in best.members]
    fewer = [label for label in best.members if label not in firm]
    if not more and not fewer:
        return []
    said = [f"keep {len(more)} more ({listed(more)})"] * bool(more)
    said += [f"leave out {len(fewer)} ({listed(fewer)})"] * bool(fewer)
    return [
        Finding(
            kind="ranks_differ",
            sentence=f"At {block.lengths[0]:,} ranks within documents, which a few failures cannot sway, would "
            f"{' and '.join(said)} as possibly the best; lowest on average ranks {firm[0]}.",
            evidence={
                "length": block.lengths[0],
                "metric": block.metric,
                "members": list(best.members),
                "by_ranks": list(firm),
                "kept": len(more),
                "left_out": len(fewer),
                "alpha": alpha,
                "documents": len(block.units),
            },
            severity="caution" if fewer and best.winner in fewer else "note",
        )
    ]
