"""The thirteen tasks under `none` and six methods at several lengths, how the two readings of them agree, and what
generating them takes with shared prefill and in a loop.

    python benchmarks/tasks_gpu.py OUT --model /tmp/smol.gguf             # SmolLM2-135M to 32768, on one GPU
    python benchmarks/tasks_gpu.py OUT --model strand --forced --both 256 512 1024 --loop    # on a CPU

First OUT/forced (right answers fed in), then OUT/both (both readings, at some of the lengths), then the loop at one
length; each part can be left out, and a later call adds it. What is in OUT is printed as Markdown last, and written to
OUT/tasks.json and OUT/tasks.md. A run that is there goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import ropewalk as rw
from ropewalk.metrics.tasks import Tasks
from ropewalk.stats.correlation import spearman
from ropewalk.stats.power import units_needed
from tasks import compared, grid

FACTOR = 4
METHODS = ["linear", "ntk_aware", "ntk_by_parts", "dynamic_ntk", "yarn", "llama3"]
ONE, OTHER = (f"{name} factor={FACTOR}" for name in ("yarn", "ntk_aware"))
PARTS, LOOP = ("forced", "both"), "loop.json"


def measured(loaded: Any, out: Path, args: argparse.Namespace, lengths: list[int], generate: str) -> None:
    """A run."""
    begun = time.monotonic()
    tasks = {"samples": args.samples, "generate": generate} | ({"tasks": args.tasks} if args.tasks else {})
    rw.sweep(
        loaded,
        methods={name: {"factor": FACTOR} for name in METHODS},
        lengths=lengths,
        documents={"corpus": "builtin", "count": 2},
        metrics={"tasks": tasks},
        out=out,
    )
    print(f"{out.name}: {time.monotonic() - begun:.1f} s", flush=True)


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


def report(out: Path) -> None:
    """Write and print what is in OUT."""
    found: dict[str, Any] = {"benchmark": "tasks_gpu", "runs": {}}
    lines: list[str] = []
    for name in PARTS:
        if not (out / name).is_dir():
            continue
        run = rw.Run.open(out / name)
        samples, frame = run.samples(), run.frame()
        found["runs"][name] = {
            "seconds": round(run.meta["wall_s"], 1),
            "cells": len(frame),
            "cells_without_value": int((frame["status"] != "ok").sum()),
            "model": {key: run.meta["model"][key] for key in ("id", "dtype", "device", "parameters")},
            "worker": run.meta["workers"][0],
            "agreement": agreement(samples) if name == "both" else [],
            "samples_needed": needed(samples),
            "values": [[*map(str, key), round(float(v), 4)] for key, v in cells(samples).items()],
        }
        lines += ["", f"## {name}", *tables(samples)]
    if (out / LOOP).is_file():
        found["loop"] = json.loads((out / LOOP).read_text())
    (out / "tasks.json").write_text(json.dumps(found, indent=1, default=str))
    (out / "tasks.md").write_text("\n".join(lines) + "\n")
    said = {name: {k: v for k, v in own.items() if k != "values"} for name, own in found["runs"].items()}
    print(json.dumps({**found, "runs": said}, indent=1, default=str))
    print("\n".join(lines), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="/tmp/smol.gguf")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--forced", type=int, nargs="*", default=[2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--both", type=int, nargs="*", default=[2048, 4096, 8192])
    parser.add_argument("--loop", type=int, nargs="*", default=[4096])
    parser.add_argument("--share", type=float, default=0.02, help="of the loop's rows; the rest is scaled up")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--tasks", nargs="+")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.forced or args.both or args.loop:
        begun = time.monotonic()
        loaded = rw.load(args.model, dtype=args.dtype)
        print(f"loaded in {time.monotonic() - begun:.1f} s on {loaded.provenance.device}", flush=True)
    if args.forced:
        measured(loaded, args.out / "forced", args, args.forced, "none")
    if args.both:
        measured(loaded, args.out / "both", args, args.both, "all")
    if args.loop:
        options = Tasks(
            samples=args.samples, generate="all", template="none", **({"tasks": args.tasks} if args.tasks else {})
        )
        made = grid(loaded, ["none", *(f"{name}:{FACTOR}" for name in METHODS)], args.loop, options)
        beside, _, _ = compared(loaded, made, max(args.loop), args.share)
        (args.out / LOOP).write_text(json.dumps({"lengths": args.loop} | beside))
    report(args.out)


if __name__ == "__main__":
    main()
