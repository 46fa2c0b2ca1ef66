"""How much narrower several windows of a document make intervals of paired differences, measured on a model.

    python benchmarks/widths.py OUT --model PATH --lengths 4096 8192 --windows 8       # runs, one a length; OUT is kept
    python benchmarks/widths.py --replay LOSSES.npz                                    # of tools/window_losses.py

Prints Markdown: per length and metric the share of a window's variance that lies between documents, and the width of
the 95 % interval of a pair's difference with 2, 4, 8 windows of each document over its width with one, medians over
all pairs of different configurations, the quartiles in brackets. One window is each of them in turn (geometric mean),
several are the first of the order in which a run reads them. Documents are the units of every interval.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

import ropewalk as rw
from ropewalk.report.study import known
from ropewalk.stats.clusters import between
from ropewalk.stats.policy import Outcomes
from ropewalk.stats.sequential import Look

METHODS = {name: {"factor": 2} for name in ("linear", "ntk_aware", "yarn", "llama3")}
METRICS = ("tail", "perplexity")
TOKENS = 512.0


def outcomes(values_CDW: np.ndarray, metric: str) -> Outcomes:
    """Mean losses, of different configurations alone; one that was not measured is none."""
    values_CDW = values_CDW[np.isfinite(values_CDW).all(axis=(1, 2))]
    _, first = np.unique(values_CDW.reshape(len(values_CDW), -1).round(9), axis=0, return_index=True)
    own = values_CDW[np.sort(first)]
    return Outcomes(
        column=known()[metric],
        length=1,
        labels=tuple(map(str, range(len(own)))),
        units=tuple(map(str, range(own.shape[1]))),
        numerators_CNW=own * TOKENS,
        denominators_CNW=np.full(own.shape, TOKENS),
    )


def widths(found: Outcomes, windows: int) -> np.ndarray:
    """`[P]` log widths of the intervals of all pairs, of the first windows of each document."""
    look = Look(units=len(found.units), windows=windows, share=1.0)
    block = found.block(found.labels, look)
    ends = [block.paired(a, b).interval for a, b in combinations(block.labels, 2)]
    return np.array([np.log(np.log(e.high / e.low)) if e.low and e.high else np.nan for e in ends])


def gained(values_CDW: np.ndarray, metric: str) -> str:
    """A row of the table."""
    found, most = outcomes(values_CDW, metric), values_CDW.shape[2]
    x = found.numerators_CNW / TOKENS
    share = np.median([between(x[i] - x[j]).share.value for i, j in combinations(range(len(x)), 2)])
    single = np.mean([widths(outcomes(values_CDW[:, :, [w]], metric), 1) for w in range(most)], axis=0)
    cells = []
    for w in (2, 4, 8, 16):
        if w <= most:
            low, middle, high = np.nanpercentile(np.exp(widths(found, w) - single), [25, 50, 75])
            cells.append(f"{middle:.2f} [{low:.2f}, {high:.2f}]")
    return f"{len(x)} configurations, {x.shape[1]} documents x {most} | {share:.2f} | {' / '.join(cells)}"


def arrays(samples: pd.DataFrame, windows: int) -> Iterator[tuple[str, np.ndarray]]:
    """Mean losses `[C, D, W]` by metric, windows in the order of reading."""
    for metric, rows in samples[samples["metric"].isin(METRICS)].groupby("metric", sort=False):
        values = (rows["numerator"] / rows["denominator"]).to_numpy()
        yield str(metric), values.reshape(rows["label"].nunique(), -1, windows)


def measured(args: argparse.Namespace) -> Iterator[str]:
    """A run at each length, of all documents that hold so many windows or of a count."""
    for length in args.lengths:
        begun = time.monotonic()
        run = rw.sweep(
            args.model,
            methods=METHODS,
            lengths=[length],
            documents={"corpus": "builtin", "windows": args.windows} | ({"count": args.count} if args.count else {}),
            metrics={"perplexity": {}},
            out=args.out / str(length),
        )
        seconds = time.monotonic() - begun
        for metric, values in arrays(run.samples(), args.windows):
            yield f"| {length}, {metric} | {gained(values, metric)} |"
        yield f"<!-- {length} tokens: {seconds:.0f} s, loading included, {run.meta['model']['dtype']} -->"


def replayed(path: Path) -> Iterator[str]:
    with np.load(path) as stored:
        for metric in METRICS:
            yield f"| {metric} | {gained(stored[metric], metric)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--model", default="strand")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024])
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--count", type=int, help="documents; all that hold so many windows if left out")
    parser.add_argument("--replay", type=Path)
    args = parser.parse_args()
    if args.replay is None and args.out is None:
        parser.error("name a directory OUT for the runs, or give --replay")
    print("| tokens, metric | measured | share between documents | width against 1 window: 2 / 4 / 8 ... windows |")
    print("|---|---|---|---|")
    for line in replayed(args.replay) if args.replay else measured(args):
        print(line, flush=True)


if __name__ == "__main__":
    main()
