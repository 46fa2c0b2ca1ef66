"""The dispatcher over 8, 64 and 512 simulated workers, with chunk times that were measured; and the writer's rate.

    python benchmarks/fleet.py

The dispatcher, its queue and its rules are the real ones; workers are a virtual clock. Chunk times come from a sweep of
strand on this machine, chunk by chunk, drawn with replacement until every worker has 16, and stretched so that their
mean is `--chunk-s` (a chunk of a large model on a GPU takes seconds). Workers take `--start-s` to load, one in 50 is
three times slower than the others, and each dies after an exponential time of mean `--life-s`. Every chunk costs the
driver what writing its outcomes cost here, measured on this disk, so 512 workers show where one writer ends.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ropewalk.execution.dispatch import Died, Dispatcher, Reply
from ropewalk.execution.executor import Done, Lost
from ropewalk.execution.layout import laid_out
from ropewalk.execution.lease import leased
from ropewalk.execution.run import sweep
from ropewalk.execution.writer import Writer
from ropewalk.experiment import schema
from ropewalk.experiment.index import Index
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store
from ropewalk.experiment.todo import Chunk, PassTask, PromptTask, todo

EXPERIMENT: dict[str, Any] = {
    "model": "strand",
    "dtype": "float32",
    "lengths": [256, 512],
    "documents": {"corpus": "builtin", "count": 4},
    "methods": {"yarn": {"factor": [2, 4]}, "linear": {"factor": 2}},
    "metrics": {"perplexity": {}, "passkey": {"trials": 4}},
}
CHUNKS = 16
STRAGGLERS, SLOW = 0.02, 3.0


def measured() -> list[float]:
    """Seconds of every chunk of a sweep of strand that 8 workers would share."""
    with leased(ask(schema.parse(EXPERIMENT, "fleet")), exact=False) as lease:
        chunks = laid_out(lease.worker, todo(lease.worker.prepared.plan, Index()), 8)
        lease.run(chunks[-1])  # the first pass compiles kernels
        found = []
        for chunk in chunks:
            start = time.perf_counter()
            lease.run(chunk)
            found.append(time.perf_counter() - start)
    return found


def writing(tokens: int, rows: int, batches: int) -> dict[str, Any]:
    """What the writer takes for batches of passes, cells aside."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        small = EXPERIMENT | {"lengths": [256], "methods": ["none"], "metrics": {"perplexity": {}}}
        asked = ask(schema.parse(small, "fleet"))
        sweep(asked, out)
        store = Store.open_run(out)
        writer = Writer(store, asked.plan, Raw.read(store))
        feed = next(iter(asked.plan.feeds))
        losses = np.random.default_rng(0).random(tokens - 1, np.float32)
        numbers = itertools.count(1000)
        start = time.perf_counter()
        for _ in range(batches):
            writer.add(1, [(PassTask(feed=feed, document=next(numbers), stop=tokens), losses) for _ in range(rows)])
        seconds = time.perf_counter() - start
        store.close()
    passes = rows * batches
    return {
        "tokens_per_pass": tokens,
        "passes_per_transaction": rows,
        "passes_per_s": round(passes / seconds),
        "megabytes_per_s": round(4e-6 * tokens * passes / seconds, 1),
        "ms_per_transaction": round(1e3 * seconds / batches, 2),
    }


class Virtual:
    """A transport whose workers are entries of a calendar."""

    def __init__(self, slots: int, times: dict[Chunk, float], draw: random.Random, args: argparse.Namespace) -> None:
        self.slots, self.times, self.draw, self.args = slots, times, draw, args
        self.now, self.busy, self.wasted = 0.0, 0.0, 0.0
        self._numbers, self._order = itertools.count(), itertools.count()
        self._calendar: list[tuple[float, int, int, Reply | Died, float]] = []
        self._free: dict[int, float] = {}
        self._ends: dict[int, float] = {}
        self._pace: dict[int, float] = {}
        self._queued: dict[int, deque[tuple[float, float]]] = {}

    def start(self, slot: int) -> int:
        worker = next(self._numbers)
        ready = self.now + self.args.start_s * self.draw.uniform(0.8, 1.5)
        self._free[worker], self._ends[worker] = ready, ready + self.draw.expovariate(1 / self.args.life_s)
        self._pace[worker] = SLOW if self.draw.random() < STRAGGLERS else 1.0
        self._at(ready, worker, Reply(object()))
        self._at(self._ends[worker], worker, Died("its time had come"))
        return worker

    def _at(self, when: float, worker: int, what: Reply | Died, seconds: float = 0.0) -> None:
        heapq.heappush(self._calendar, (when, next(self._order), worker, what, seconds))

    def name(self, worker: int) -> str:
        return f"worker {worker}"

    def send(self, worker: int, method: str, *args: Any) -> None:
        if method != "run":
            self._at(self.now, worker, Reply(args[0] if method == "layout" else None))
            return
        seconds = self.times[args[0]] * self._pace[worker]
        begins = max(self._free[worker], self.now)
        self._free[worker] = begins + seconds
        if self._free[worker] > self._ends[worker]:
            self.wasted += max(0.0, self._ends[worker] - begins)
        self._at(self._free[worker], worker, Reply(args[0]), seconds)

    def wait(self, timeout_s: float) -> list[tuple[int, Reply | Died]]:
        if not self._calendar or self._calendar[0][0] > self.now + timeout_s:
            self.now += timeout_s
            return []
        when, _, worker, what, seconds = heapq.heappop(self._calendar)
        self.now = max(self.now, when)
        if worker not in self._ends:
            return []
        if isinstance(what, Died):
            del self._ends[worker]
        self.busy += seconds
        return [(worker, what)]

    def kill(self, worker: int) -> None:
        del self._ends[worker]

    def clock(self) -> float:
        return self.now


def simulate(workers: int, times: list[float], write_s: float, args: argparse.Namespace) -> dict[str, Any]:
    draw = random.Random(args.seed)
    stretch = args.chunk_s * len(times) / sum(times)
    drawn = [stretch * draw.choice(times) for _ in range(CHUNKS * workers)]
    of: dict[Chunk, float] = {}
    for place, seconds in enumerate(drawn):
        task = PromptTask(fingerprint="x", metric="m", length=1, place=place)
        of[Chunk(tasks=(task,), cost=seconds * draw.uniform(0.8, 1.25))] = seconds  # predictions are not exact
    transport = Virtual(workers, of, draw, args)
    real = time.perf_counter()
    made = Dispatcher(transport, patience_s=600.0)
    made.first()
    first = transport.now
    lost = done = 0
    writing_s = 0.0
    for event in made.map(sorted(of, key=lambda chunk: -chunk.cost)):
        lost += isinstance(event, Lost)
        if isinstance(event, Done):
            done += 1
            transport.now += write_s
            writing_s += write_s
    took = transport.now - first
    ideal = sum(drawn) / workers
    return {
        "workers": workers,
        "chunks": len(drawn),
        "hours_of_work": round(sum(drawn) / 3600, 2),
        "seconds": round(took, 1),
        "ideal_s": round(ideal, 1),
        "efficiency": round(ideal / took, 3),
        "workers_lost": lost,
        "work_lost_share": round(transport.wasted / sum(drawn), 4),
        "writer_busy_share": round(writing_s / took, 3),
        "chunks_done": done,
        "dispatcher_ms_per_chunk": round(1e3 * (time.perf_counter() - real) / len(drawn), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--chunk-s", type=float, default=5.0)
    parser.add_argument("--start-s", type=float, default=30.0)
    parser.add_argument("--life-s", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rates = [writing(512, 64, 10), writing(16384, 12, 20), writing(131072, 1, 40)]
    for rate in rates:
        print(json.dumps(rate), flush=True)
    times = measured()
    spread = np.quantile(times, (0.0, 0.5, 1.0)).round(4).tolist()
    print(json.dumps({"chunks_measured": len(times), "least_median_most_s": spread}), flush=True)
    for life_s in (1e12, args.life_s):
        args.life_s = life_s
        for workers in args.workers:
            found = simulate(workers, times, rates[1]["ms_per_transaction"] / 1e3, args)
            print(json.dumps({"mean_life_s": life_s if life_s < 1e9 else None} | found), flush=True)


if __name__ == "__main__":
    main()
