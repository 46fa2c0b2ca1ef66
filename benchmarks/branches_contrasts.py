"""Every configuration of a run against some of them: paired over documents, intervals widened for how many there are.

    python benchmarks/branches_contrasts.py RUN --metric tail --length 1024 --against truncate none
    python benchmarks/branches_contrasts.py RUN ... --documents hamlet persuasion   # on those alone

A reference is a label, or a method that has one label alone.
Rows with the very same outcomes are one comparison. An interval of ratios (or differences) holds for all rows of its
column at once in 95 % of runs, by Bonferroni.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ropewalk.report.study import read_to_choose
from ropewalk.stats.best import distinct
from ropewalk.stats.blocks import Block

ALPHA = 0.05


def block_of(directory: Path, metric: str, length: int, documents: Sequence[str], *, partial: bool = False) -> Block:
    """The outcomes of one metric at one length, of these documents alone if there are any."""
    block = read_to_choose(directory, partial=partial)[0].blocks.get((metric, length))
    if block is None:
        raise SystemExit(f"{directory}: has no {metric} at {length}")
    if not documents:
        return block
    places = [block.units.index(each) for each in documents]
    return dataclasses.replace(
        block,
        units=tuple(documents),
        numerators_CN=block.numerators_CN[:, places],
        denominators_CN=block.denominators_CN[:, places],
        groups=tuple(block.groups[place] for place in places) if block.groups else (),
    )


def labels_of(block: Block, names: Sequence[str]) -> list[str]:
    """The label of each name: the very same, or the only one of a method."""
    found = []
    for name in names:
        own = [label for label in block.labels if label == name] or [
            label for label in block.labels if label.split()[0] == name
        ]
        if len(own) != 1:
            raise SystemExit(f"{name}: is {own or 'none'} of {', '.join(block.labels)}")
        found += own
    return found


def contrasts(block: Block, against: Sequence[str]) -> list[dict[str, Any]]:
    """By label its value and, against each reference, [value, low, high]."""
    confidence = 1 - ALPHA / max(1, distinct(block) - 1)
    rows = []
    for label in block.labels:
        own = block.interval(label)
        found: dict[str, Any] = {"label": label, "value": [own.value, own.low, own.high]}
        for reference in against:
            if reference != label:
                paired = block.paired(label, reference, confidence).interval
                found[reference] = [paired.value, paired.low, paired.high]
        rows.append(found)
    return rows


def markdown(block: Block, rows: Sequence[dict[str, Any]], against: Sequence[str]) -> str:
    head = [block.metric, *(f"against {each}" for each in against)]
    lines = [f"| | {' | '.join(head)} |", "|---|" + "---|" * len(head)]
    for row in rows:
        value = math.exp(row["value"][0]) if block.column.is_ratio else row["value"][0]
        cells = [f"{value:.4g}", *(_change(row.get(each), block.column.is_ratio) for each in against)]
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _change(triple: Sequence[float | None] | None, ratio: bool) -> str:
    if triple is None:
        return ""
    if any(each is None for each in triple):
        return f"{triple[0]:+.3f}"
    value, low, high = ((100 * (each - 1) if ratio else 100 * each) for each in triple if each is not None)
    return f"{value:+.1f}{' %' if ratio else ' points'} [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--metric", default="tail")
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--against", nargs="+", default=["truncate"])
    parser.add_argument("--documents", nargs="*", default=[])
    parser.add_argument("--partial", action="store_true", help="though cells of the run are missing")
    args = parser.parse_args()
    block = block_of(args.run, args.metric, args.length, args.documents, partial=args.partial)
    against = labels_of(block, args.against)
    print(markdown(block, contrasts(block, against), against))
    print(f"\n{len(block.units)} documents or trials; {distinct(block) - 1} comparisons.")


if __name__ == "__main__":
    main()
