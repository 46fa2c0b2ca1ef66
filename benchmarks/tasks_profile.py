"""Where the time of forced answers goes: tokens per second, and on a GPU the kernels that take it.

python benchmarks/tasks_profile.py MODEL 2048,32768
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import ropewalk as rw
from ropewalk.metrics.tasks import Tasks
from ropewalk.scoring import fast, score_shared, split
from ropewalk.scoring.budget import batch_tokens
from tasks import grid

METHODS = ["none", *(f"{name}:4" for name in ("linear", "ntk_aware", "ntk_by_parts", "dynamic_ntk", "yarn", "llama3"))]
TASKS = {True: 2, False: 8}
"""Prompts of different tasks, of lengths beyond 8192 or not."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("lengths", type=lambda text: [int(each) for each in text.split(",")])
    args = parser.parse_args()
    loaded, cuda = rw.load(args.model, dtype="auto"), torch.cuda.is_available()
    with fast(loaded.model, split(loaded.model), compiled=cuda, longest=max(args.lengths)) as quick:
        for length in args.lengths:
            every = grid(loaded, METHODS, [length], Tasks(samples=1, generate="all", template="none")).forced
            prompts = list(dict.fromkeys(id(row.ids) for row in every))[2 : 2 + TASKS[length > 8192]]
            rows = [row for row in every if id(row.ids) in prompts]

            def scored() -> float:
                begun = time.perf_counter()
                list(score_shared(loaded.model, quick, rows, batch_tokens(loaded.model, length)))  # noqa: B023
                return time.perf_counter() - begun

            scored()
            seconds, tokens = min(scored(), scored()), sum(len(row.ids) for row in rows)
            print(f"{length}: {len(rows)} rows, {seconds:.3f} s, {tokens / seconds:.0f} tokens/s", flush=True)
            if not cuda:
                continue
            with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as watched:
                scored()
            spent = Counter[str]()
            for event in watched.events():
                if event.device_type == DeviceType.CUDA:
                    spent[event.name] += event.device_time_total
            print(f"  of the GPU {sum(spent.values()) / 1e6:.3f} s")
            for name, microseconds in spent.most_common(12):
                print(f"  {microseconds / 1e6:8.4f} s  {name[:90]}")


if __name__ == "__main__":
    main()
