"""Seeds of a tuning side by side on several GPUs against one after the other on one, and a model cut over all of them.

    python benchmarks/tune_workers.py --model smollm2 --length 16384 --steps 60 --repeats 2 --workers 1 2 --spread
    python benchmarks/tune_workers.py --tiny --workers 1 2           # strand on a CPU, to see that it runs

Every run is the same tuning in a directory of its own; `--spread` ends with the first seed alone under `device_map`.
Compared with the first run: the losses of every step, and what the judge measured, to the bit or by how much.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from ropewalk.execution.executor import Fleet
from ropewalk.experiment import schema
from ropewalk.tuning.asked import Request
from ropewalk.tuning.run import tune

PARTS = ("named methods", "seed", "judging")


def experiment(model: Any, window: int, length: int, tiny: bool) -> Any:
    raw = {
        "model": model,
        "lengths": sorted({window, length}),
        "documents": {"corpus": "builtin", "count": 4},
        "methods": {"yarn": {"factor": "auto"}},
        "metrics": {"perplexity": {}, "passkey": {"trials": 2 if tiny else 4}},
        "tune": {"probes": 1},
    }
    return schema.parse(raw, "benchmark")


class Marks:
    """When each part of a tuning was first and last heard of."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.perf_counter() - self.begun
        for part in PARTS:
            if what.startswith(part):
                self.first.setdefault(part, now)
                self.last[part] = now

    def seconds(self) -> dict[str, float]:
        """Until the named methods are measured, from there to the last step, the rest."""
        whole, named, steps = time.perf_counter() - self.begun, self.last.get("named methods", 0.0), self.last["seed"]
        return {"named_s": round(named, 1), "steps_s": round(steps - named, 1), "command_s": round(whole, 1)}


def losses(out: Path) -> dict[str, Any]:
    return {path.name: load_file(path)["losses"] for path in sorted(out.glob("seed-*.safetensors"))}


def compared(one: Path, other: Path) -> dict[str, Any]:
    """Steps and judged files of the second, beside those of the first."""
    here, there = losses(one), losses(other)
    off = {name: float(np.abs(here[name] - mine).max()) for name, mine in there.items()}
    judged = [path for path in (other / "judged").iterdir() if (one / "judged" / path.name).exists()]
    same = sum(path.read_bytes() == (one / "judged" / path.name).read_bytes() for path in judged)
    return {
        "steps_equal_to_the_bit": all(np.array_equal(here[name], mine) for name, mine in there.items()),
        "largest_difference_of_a_step_nats": max(off.values()),
        "judged_files_of_both": len(judged),
        "judged_files_equal_to_the_bit": same,
    }


def run(asked: Any, request: Request, out: Path, fleet: Fleet) -> dict[str, Any]:
    marks = Marks()
    found = tune(asked, request, out, progress=marks, fleet=fleet).result
    rows = {row["label"]: round(row["beyond"], 4) for row in found["judge"]["rows"]}
    kept = ("tuned", "none", found["judge"]["best_named"])
    return {
        "workers": fleet.workers,
        "seeds": request.repeats,
        "steps": [each["steps"] for each in found["seeds"]],
        **marks.seconds(),
        "perplexity_beyond": {label: rows[label] for label in kept},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--window", type=int, default=8192)
    parser.add_argument("--length", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--spread", action="store_true", help="then the first seed with device_map: balanced")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--results", type=Path, help="a directory, for tune_workers.json")
    args = parser.parse_args()
    if args.tiny:
        args.model, args.window, args.length, args.steps = "strand", 256, 512, 3
    found: list[dict[str, Any]] = []
    print({"torch": torch.__version__, "transformers": transformers.__version__}, flush=True)
    plan = [(args.model, workers, args.repeats) for workers in args.workers]
    if args.spread:
        plan.append(({"id": args.model, "device_map": "balanced"}, 1, 1))
    with tempfile.TemporaryDirectory() as scratch:
        for place, (model, workers, repeats) in enumerate(plan):
            out = Path(scratch) / str(place)
            asked = experiment(model, args.window, args.length, args.tiny)
            request = Request(length=args.length, steps=args.steps, repeats=repeats)
            own = {"model": model} | run(asked, request, out, Fleet(workers=workers))
            if place:
                own["against_the_first_run"] = compared(Path(scratch) / "0", out)
            found.append(own)
            print(json.dumps(own), flush=True)
            if args.results:
                (args.results / "tune_workers.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n| workers | seeds | named, s | steps, s | command, s | steps equal to the bit |")
    print("|---:|---:|---:|---:|---:|---|")
    for each in found:
        same = each.get("against_the_first_run", {}).get("steps_equal_to_the_bit", "")
        spread = " (over all GPUs)" if isinstance(each["model"], dict) else ""
        print(
            f"| {each['workers']}{spread} | {each['seeds']} | {each['named_s']} | {each['steps_s']} | "
            f"{each['command_s']} | {same} |"
        )


if __name__ == "__main__":
    main()
