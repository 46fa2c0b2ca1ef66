"""Findings about groups of units, such as tasks: which of them say nothing here."""

from __future__ import annotations

import math

from ropewalk.stats.column import Column
from ropewalk.stats.findings.finding import Finding, listed, share
from ropewalk.stats.groups import tells_apart, values
from ropewalk.stats.measured import NONE, Measured

FULL, EMPTY = 0.95, 0.05
"""Scores beyond which nothing can be told apart any more. Losses go on telling apart where scores are full."""
UNLIKELY = 0.25
"""Probability of each token, on geometric average, at which even an answer of two tokens comes in 6 of 100 cases."""


def saturated(run: Measured) -> list[Finding]:
    """Groups in which every configuration scores nearly everything, at every length."""
    found = list[Finding]()
    for column in run.grouped:
        if not column.higher_is_better:
            continue
        least: dict[str, float] = {}
        for (_, name), own in values(run, column).items():
            least[name] = min(least.get(name, 1.0), *own.values())
        full = [name for name, value in least.items() if name and value >= FULL]
        if full:
            found.append(
                Finding(
                    kind="saturated",
                    sentence=f"{column.title[:1].upper()}{column.title[1:]}: every configuration has at least "
                    f"{share(FULL)} at every length of {listed(full, most=len(full))}, which therefore tell nothing "
                    "apart.",
                    evidence={"metric": column.name, "groups": {name: least[name] for name in full}, "at_least": FULL},
                    severity="caution",
                )
            )
    return found


def hopeless(run: Measured) -> list[Finding]:
    """Groups that the unscaled model cannot do at any length inside its window."""
    return [each for column in run.grouped if (each := _hopeless(run, column)) is not None]


def _hopeless(run: Measured, column: Column) -> Finding | None:
    if not (column.higher_is_better or column.answered):  # a loss by word or byte says nothing of an answer
        return None
    best: dict[str, float] = {}
    for (label, name), own in values(run, column).items():
        inside = [value for length, value in own.items() if length <= run.shipped_window]
        if label == NONE and inside and name:
            best[name] = max(inside) if column.higher_is_better else min(inside)
    least = -math.log(UNLIKELY)
    none = {n: v for n, v in best.items() if (v <= EMPTY if column.higher_is_better else v >= least)}
    if not none:
        return None
    named = listed(list(none), most=len(none))
    has = (
        f"has at most {share(EMPTY)} of"
        if column.higher_is_better
        else f"gives each token of the right answer at most {share(UNLIKELY)} (geometric mean) in"
    )
    bound = {"at_most": EMPTY} if column.higher_is_better else {"at_least": least}
    return Finding(
        kind="hopeless_inside_the_window",
        sentence=f"{column.title[:1].upper()}{column.title[1:]}: even inside its window of {run.shipped_window:,} the "
        f"unscaled model {has} {named}; there no method can be seen to keep what is not there.",
        evidence={"metric": column.name, "groups": none, **bound},
        severity="warning",
    )


def too_few_samples(run: Measured) -> list[Finding]:
    """Lengths beyond the window at which most groups alone tell no configuration from `none`."""
    found = list[Finding]()
    for column in run.grouped:
        for length in run.lengths:
            block = run.block(column.name, length)
            if block is None or length <= run.shipped_window or NONE not in block.labels or len(block.labels) < 2:
                continue
            parts = block.by_group()
            mute = [name for name, part in parts.items() if not tells_apart(part)]
            if not mute or 2 * len(mute) < len(parts):
                continue
            samples = min(len(part.units) for part in parts.values())
            together = "all together do" if tells_apart(block) else "nor do all together"
            found.append(
                Finding(
                    kind="too_few_samples",
                    sentence=f"At {length:,}, {len(mute)} of {len(parts)} tasks alone tell no configuration from none "
                    f"by {column.title} with {samples} samples each ({together}): {listed(mute)}.",
                    evidence={"metric": column.name, "length": length, "groups": mute, "samples": samples},
                    severity="caution",
                )
            )
    return found
