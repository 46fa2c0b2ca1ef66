"""A sweep on CPU cores against the stock loop on the same cells, in the same dtype, on the same loaded model.

    python benchmarks/cpu.py strand     # the demo's grid
    python benchmarks/cpu.py smollm2    # SmolLM2-135M, two rotations, 512 to 2048 tokens
    python benchmarks/cpu.py --tiny     # a few seconds, to see that it runs

The stock loop is spared duplicates: it measures every distinct (rotation, length) once. Both sides start with the
model in memory. The numbers must be the same: mean NLL within kernel noise, the same passkeys found.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from stock import Stock, loop

import ropewalk as rw
from ropewalk.execution.run import sweep
from ropewalk.experiment import presets, schema
from ropewalk.experiment.prepare import ask, prepare
from ropewalk.experiment.results import Run
from ropewalk.stats.measured import TRUNCATE

TINY = {
    "model": "strand",
    "lengths": [128, 256],
    "documents": {"corpus": "builtin", "count": 2},
    "methods": {"yarn": {"factor": 4}},
    "metrics": {"perplexity": {}, "passkey": {"trials": 4}},
}
SMOLLM2 = TINY | {
    "model": "smollm2",
    "lengths": [512, 1024, 2048],
    "documents": {"corpus": "builtin", "count": 4},
    "metrics": {"perplexity": {}, "passkey": {"trials": 10}},
}


def chosen(name: str, tiny: bool) -> dict[str, Any]:
    if tiny:
        return TINY
    return yaml.safe_load(presets.text("demo")) if name == "strand" else SMOLLM2


def differences(run: Run, stock: Stock) -> dict[str, float]:
    """Largest difference of a document's mean NLL, nats/token, and the number of trials judged differently."""
    samples = run.samples()
    rows = {(row["label"], row["length"]): row["fingerprint"] for row in run.labelled_rows()}
    nll = keys = 0.0
    for (label, length, metric), part in samples.groupby(["label", "length", "metric"]):
        pair = rows[label, length], length
        if metric == "perplexity" and label != TRUNCATE:
            for sample, mean in zip(part.itertuples(), stock.nll[pair], strict=True):
                nll = max(nll, abs(sample.numerator / sample.denominator - mean))
        if metric == "passkey":
            found = [bool(sample.numerator) for sample in part.itertuples()]
            keys += sum(one != other for one, other in zip(found, stock.found[pair], strict=True))
    return {"largest_nll_difference": nll, "trials_judged_differently": int(keys)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["strand", "smollm2"], nargs="?", default="strand")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    raw = chosen(args.name, args.tiny)
    loaded = rw.load(raw["model"], device="cpu")
    asked = ask(schema.parse(raw, "benchmark"), loaded)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = sweep(asked, Path(folder) / "run")
        ours = time.perf_counter() - start
        cells = [cell for cell in asked.plan.cells if cell.method != TRUNCATE]
        pairs = dict.fromkeys((cell.fingerprint, cell.length) for cell in cells)
        theirs = loop(loaded, prepare(asked), pairs)
        found = differences(run, theirs)
    found |= {
        "benchmark": f"cpu-{'tiny' if args.tiny else args.name}",
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        "dtype": loaded.provenance.dtype,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rotations_x_lengths": len(pairs),
        "cells": len(asked.plan.cells),
        "ropewalk_s": round(ours, 1),
        "stock_s": round(theirs.seconds, 1),
        "stock_documents_s": round(theirs.documents_s, 1),
        "stock_passkey_s": round(theirs.passkey_s, 1),
        "times_faster": round(theirs.seconds / ours, 2),
    }
    for key, value in found.items():
        print(f"{key:28} {value}")
    print(json.dumps(found))


def processor() -> str:
    """What /proc/cpuinfo calls it, with the cores that this process may use."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{(names or [platform.processor()])[0]}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    main()
