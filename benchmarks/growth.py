"""What a grid costs as it grows: linear in distinct rotations, flat in duplicates.

    python benchmarks/growth.py [--figure growth.png] [--tiny]

strand inside its window, where every dynamic_ntk is the unscaled rotation: one grid grows by yarn factors (each a
rotation of its own), the other by dynamic_ntk factors (none of them new). The model stays in memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import altair
import pandas
import torch
import transformers
from cpu import processor

import ropewalk as rw

LENGTH = 256
SIZES = [1, 2, 4, 8, 16]


def seconds(loaded: Any, method: str, count: int, documents: int) -> tuple[float, int]:
    """Wall time of a sweep over `count` factors of a method, and how many rotations it had."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = rw.sweep(
            loaded,
            methods={method: {"factor": [2 + step / 4 for step in range(count)]}},
            lengths=[LENGTH],
            documents={"corpus": "builtin", "count": documents},
            metrics={"perplexity": {}, "passkey": {"trials": documents}},
            out=Path(folder) / "run",
        )
        took = time.perf_counter() - start
        return took, len({row["fingerprint"] for row in run.rows()})


def figure(rows: list[dict[str, Any]], path: str) -> None:
    lines = altair.Chart(pandas.DataFrame(rows)).mark_line(point=True)
    lines.encode(
        x=altair.X("configurations:Q", title="configurations in the grid"),
        y=altair.Y("s:Q", title="seconds"),
        color=altair.Color("grid:N", title=None),
    ).properties(width=420, height=260).save(path, scale_factor=2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--figure")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    documents, sizes = (2, [1, 2]) if args.tiny else (16, SIZES)
    loaded = rw.load("strand")
    seconds(loaded, "yarn", 1, documents)  # what is allocated once
    rows = []
    for grid, method in (("new rotations", "yarn"), ("duplicates", "dynamic_ntk")):
        for count in sizes:
            took, rotations = seconds(loaded, method, count, documents)
            rows.append({"grid": grid, "configurations": count + 1, "rotations": rotations, "s": round(took, 2)})
            print(rows[-1], flush=True)
    if args.figure:
        figure(rows, args.figure)
    facts = {"benchmark": "growth", "device": loaded.provenance.device, "cpu": processor()}
    versions = {"dtype": loaded.provenance.dtype, "torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps(facts | versions | {"results": rows}))


if __name__ == "__main__":
    main()
