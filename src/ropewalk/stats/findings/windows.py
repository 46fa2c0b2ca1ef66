"""What reading several windows of each document gained."""

from __future__ import annotations

from ropewalk.stats.blocks import Block
from ropewalk.stats.findings.finding import Finding, share
from ropewalk.stats.findings.quality import deciding_block
from ropewalk.stats.measured import Measured
from ropewalk.stats.power import with_windows


def gained(block: Block) -> str:
    """The sentence; empty where one window was read of each document, or nothing says what more were worth."""
    if block.between is None:
        return ""
    narrower = with_windows(1.0, block.between, block.windows)
    return (
        f"{block.windows} windows of each of {len(block.units)} documents: {share(block.between)} of the variance "
        f"of a difference lies between documents, so each is worth {1 / narrower**2:.1f} of one window, and intervals "
        f"are {narrower:.2f} times as wide as those of one."
    )


def windows(run: Measured) -> list[Finding]:
    """The gain where the run's longest length is decided."""
    block = deciding_block(run, run.lengths[-1]) if run.lengths else None
    if block is None or not (sentence := gained(block)):
        return []
    evidence = {"windows": block.windows, "documents": len(block.units), "between": block.between}
    return [
        Finding(kind="windows", sentence=f"At {block.lengths[0]:,}, {sentence}", evidence=evidence, severity="note")
    ]
