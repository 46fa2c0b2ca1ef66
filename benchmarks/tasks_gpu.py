"""Which method keeps which task: the thirteen tasks over lengths, and how the two readings of them agree.

    python benchmarks/tasks_gpu.py OUT                                   # SmolLM2-135M to 32768, on one GPU
    python benchmarks/tasks_gpu.py OUT --model strand --lengths 256 512 1024 --generated-at 256 512 1024   # on a CPU

Writes the run directories OUT/grid (right answers fed in) and OUT/generated (both readings, at some of the lengths),
OUT/tasks.json, and prints both as Markdown. A run that is there goes on.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers

import ropewalk as rw
from ropewalk.stats.correlation import spearman
from ropewalk.stats.power import units_needed

FACTOR = 4
METHODS = ["linear", "ntk_aware", "ntk_by_parts", "dynamic_ntk", "yarn", "llama3"]
ONE, OTHER = (f"{name} factor={FACTOR}" for name in ("yarn", "ntk_aware"))
READINGS = ("answer_nll", "generated")


def measured(out: Path, args: argparse.Namespace, lengths: list[int], generate: str) -> tuple[Any, float]:
    """A run, and the seconds that it took, loading included."""
    begun = time.monotonic()
    tasks = {"samples": args.samples, "generate": generate} | ({"tasks": args.tasks} if args.tasks else {})
    run = rw.sweep(
        args.model,
        methods={name: {"factor": FACTOR} for name in METHODS},
        lengths=lengths,
        documents={"corpus": "builtin", "count": 2},
        metrics={"tasks": tasks},
        dtype=args.dtype,
        out=out,
    )
    return run, time.monotonic() - begun


def cells(samples: pd.DataFrame) -> pd.Series[float]:
    """The mean of every metric, length, task and configuration."""
    return samples.groupby(["metric", "length", "group", "label"], sort=False)["numerator"].mean()


def tables(samples: pd.DataFrame) -> list[str]:
    """A Markdown table per metric and length: a row per task and one of their mean, a column per configuration."""
    lines: list[str] = []
    for (metric, length), own in cells(samples).groupby(level=["metric", "length"], sort=False):
        table = own.droplevel(["metric", "length"]).unstack("label")
        table = table[[label for label in samples["label"].unique() if label in table]]
        table.loc["all"] = table.mean()
        lines += ["", f"`{metric}` at {length:,}", "", "| task | " + " | ".join(table.columns) + " |"]
        lines.append("|---|" + "---|" * len(table.columns))
        lines += [f"| {name} | " + " | ".join(f"{v:.2f}" for v in row) + " |" for name, row in table.iterrows()]
    return lines


def agreement(samples: pd.DataFrame) -> list[dict[str, Any]]:
    """Spearman's correlation of the two readings within each length, turned so that 1 is agreement: over all cells
    (tasks by configurations) and over configurations within each task, averaged over tasks where both vary."""
    found = []
    means = cells(samples).unstack("metric")
    for length, own in means.groupby(level="length"):
        every = spearman(-own["answer_nll"], own["generated"])
        by_task = {
            str(task): each
            for task, rows in own.groupby(level="group")
            if (each := spearman(-rows["answer_nll"], rows["generated"])) is not None
        }
        within = np.array([each.value for each in by_task.values()])
        reach = 1.96 * within.std(ddof=1) / len(within) ** 0.5 if len(within) > 1 else float("nan")
        found.append(
            {
                "length": length,
                "cells": len(own),
                "over_cells": every
                and [None if v is None else round(v, 2) for v in (every.value, every.low, every.high)],
                "within_tasks": [round(float(within.mean()), 2), round(float(reach), 2)] if len(within) else None,
                "tasks_that_vary": len(within),
            }
        )
    return found


def needed(samples: pd.DataFrame) -> list[dict[str, Any]]:
    """How many samples, spread over the tasks as here, tell ONE from OTHER in four of five tries, by paired t."""
    found = []
    for (metric, length), own in samples.groupby(["metric", "length"], sort=False):
        wide = own.pivot(index="unit", columns="label", values="numerator")
        difference = (wide[ONE] - wide[OTHER]).to_numpy(dtype=np.float64)
        mean, spread = float(difference.mean()), float(difference.std(ddof=1))
        asked = units_needed(mean, spread) if mean and spread else None
        found.append(
            {
                "metric": metric,
                "length": int(length),
                "difference": round(mean, 4),
                "standard_deviation": round(spread, 4),
                "samples_at_hand": len(difference),
                "samples_needed": asked,
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--generated-at", type=int, nargs="*", default=[4096, 16384])
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--tasks", nargs="+")
    args = parser.parse_args()
    whole = args.generated_at == args.lengths
    runs: dict[str, tuple[list[int], str]] = {"generated": (args.generated_at, "all")} if args.generated_at else {}
    runs = runs if whole else {"grid": (args.lengths, "none"), **runs}
    seconds, samples, failed = dict[str, float](), dict[str, pd.DataFrame](), dict[str, int]()
    for name, (lengths, generate) in runs.items():
        run, seconds[name] = measured(args.out / name, args, lengths, generate)
        samples[name], frame = run.samples(), run.frame()
        failed[name] = int((frame["status"] != "ok").sum())
        print(f"{name}: {seconds[name]:.1f} s, {len(frame)} cells, {failed[name]} without a value", flush=True)
        workers = run.meta["workers"][0]
    both = samples.get("generated")
    found = {
        "benchmark": "tasks_gpu",
        "model": args.model,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "attention": workers["attention"],
        "samples": args.samples,
        "seconds": {name: round(took, 1) for name, took in seconds.items()},
        "cells_without_value": failed,
        "agreement": [] if both is None else agreement(both),
        "samples_needed": [each for own in samples.values() for each in needed(own)],
        "cells": {
            name: [[*map(str, key), round(float(v), 4)] for key, v in cells(own).items()]
            for name, own in samples.items()
        },
    }
    (args.out / "tasks.json").write_text(json.dumps(found, indent=1))
    print(json.dumps({key: value for key, value in found.items() if key != "cells"}, indent=1))
    for name, own in samples.items():
        print("\n".join([f"\n## {name}", *tables(own)]), flush=True)


if __name__ == "__main__":
    main()
