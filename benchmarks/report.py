"""How long a report takes to write and to open, and how large its page is: 172 and 10,000 cells through the real store.

    python benchmarks/report.py [--cells 172 10000]

`strand` on three short texts, so that the runs take seconds; what a report costs depends on the number of cells alone.
The page is opened from disk in headless Chromium with the network off; "open" ends when the last chart is drawn.
Prints one JSON object a line. About a minute on two quiet CPU cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ropewalk as rw
from ropewalk.report.write import report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
import browser

GRID_172: dict[str, Any] = {
    "linear": {"factor": [2, 3, 4, 8]},
    "ntk_by_parts": {"factor": "auto", "alpha": [1, 1.5, 2], "beta": [16, 32, 64]},
    "yarn": {"factor": [2, 3, 4, 8], "beta_fast": [24, 32, 48]},
    "longrope": {"factor": [2, 4, 8]},
    "dynamic_ntk": {"factor": [2, 4, 8]},
    "llama3": {"factor": [2, 4, 8], "low_freq_factor": [1, 2], "high_freq_factor": [4, 8]},
}
"""The 43 configurations at four lengths."""


def sweep(cells: int, out: Path) -> Any:
    """A run with at least so many cells; for 172, as many pairs of configuration and length, each in four metrics."""
    documents = {"corpus": "builtin", "count": 3}
    if cells <= 172:
        metrics = {"perplexity": {}, "passkey": {"trials": 20}}
        return rw.sweep(
            "strand", methods=GRID_172, lengths=[96, 128, 256, 512], documents=documents, metrics=metrics, out=out
        )
    lengths = [51 * i for i in range(1, 11)]
    factors = [1 + i / 100 for i in range(1, -(-cells // (3 * len(lengths))) + 1)]
    return rw.sweep("strand", methods={"yarn": {"factor": factors}}, lengths=lengths, documents=documents, out=out)


def measure(cells: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        started = time.perf_counter()
        rows = len(sweep(cells, Path(folder) / "run").rows())
        run_s, started = time.perf_counter() - started, time.perf_counter()
        page, *_ = report(Path(folder) / "run")
        report_s = time.perf_counter() - started
        with browser.browser(Path(folder) / "profile") as tab:
            tab.open(page)  # the program itself starts
            opened = sorted(tab.open(page) for _ in range(5))
            errors = list(tab.errors)
        return {
            "rows": rows,
            "run_s": round(run_s, 1),
            "report_s": round(report_s, 1),
            "page_bytes": page.stat().st_size,
            "open_s": [round(opened[0], 2), round(opened[2], 2), round(opened[-1], 2)],
            "errors": errors,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[172, 10_000])
    for cells in parser.parse_args().cells:
        print(json.dumps(measure(cells)), flush=True)


if __name__ == "__main__":
    main()
