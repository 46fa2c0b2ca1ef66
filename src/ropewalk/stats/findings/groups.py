"""Findings about groups of units, such as tasks: which of them say nothing here."""

from __future__ import annotations

from ropewalk.stats.findings.finding import Finding, listed, share
from ropewalk.stats.groups import tells_apart, values
from ropewalk.stats.measured import NONE, Measured

FULL, EMPTY = 0.95, 0.05
"""Scores beyond which nothing can be told apart any more."""


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
                    f"{share(FULL)} at every length of {listed(full)}, which therefore tell nothing apart.",
                    evidence={"metric": column.name, "groups": {name: least[name] for name in full}, "at_least": FULL},
                    severity="caution",
                )
            )
    return found


def hopeless(run: Measured) -> list[Finding]:
    """Groups that the unscaled model cannot do at any length inside its window."""
    found = list[Finding]()
    for column in run.grouped:
        if not column.higher_is_better:
            continue
        most: dict[str, float] = {}
        for (label, name), own in values(run, column).items():
            inside = [value for length, value in own.items() if length <= run.shipped_window]
            if label == NONE and inside and name:
                most[name] = max(inside)
        none = [name for name, value in most.items() if value <= EMPTY]
        if none:
            found.append(
                Finding(
                    kind="hopeless_inside_the_window",
                    sentence=f"{column.title[:1].upper()}{column.title[1:]}: even inside its window of "
                    f"{run.shipped_window:,} the unscaled model has at most {share(EMPTY)} of {listed(none)}; "
                    "there no method can be seen to keep what is not there.",
                    evidence={"metric": column.name, "groups": {name: most[name] for name in none}, "at_most": EMPTY},
                    severity="warning",
                )
            )
    return found


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
