"""Kill workers, drivers and nodes at random moments, and compare every finished run with one left in peace.

    python benchmarks/fleet_kills.py processes --kills 100 --runs 30 --drivers 10
    python benchmarks/fleet_kills.py ray --kills 100 --runs 30 --drivers 5     # a local cluster of four nodes
    python benchmarks/fleet_kills.py ray ... --log ray.jsonl --limit-s 400     # a part; the same command goes on

A fault is drawn anew at random times of a run: a worker is killed (SIGKILL), killed as soon as a chunk of it came in,
stopped so that it hangs (SIGSTOP, ended by the deadline), a node leaves the cluster (ray) and another joins, or the
driver is killed (it is a process of its own then). A run that lost its driver, or that recorded a failure because two
workers died over one chunk, is gone on with like any other. Finished, it must hold what the undisturbed one holds:
every row of every table and every raw file, byte for byte, time stamps and workers' facts aside. The model is a random
one of two layers: a run left in peace takes seconds, so that faults come every few chunks.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import logging
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from fleet_faults import WORKERS, Faults, forkserver, over_processes, over_ray
from scale_gpu import checkpoint

from ropewalk.errors import ModelError
from ropewalk.execution import local, on_ray, processes
from ropewalk.execution.executor import Executor, Fleet
from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.verify import verify_rows

EXPERIMENT: dict[str, Any] = {
    "dtype": "float32",
    "lengths": [256, 512],
    "documents": {"corpus": "builtin", "count": 8},
    "methods": {"yarn": {"factor": [2, 4, 8]}, "linear": {"factor": [2, 4]}},
    "metrics": {"perplexity": {}, "passkey": {"trials": 4}},
    "seed": 7,
}
PATIENCE_S = 4.0
TABLES = ("documents", "schemes", "passes", "prompts", "answers", "cells")


def content(out: Path) -> dict[str, Any]:
    """What a finished run is."""
    checked, wrong = verify_rows(out)
    assert not wrong, wrong
    found: dict[str, Any] = {"checked": checked}
    with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as db:
        for table in TABLES:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            names = [name for name in columns if name not in ("finished_at", "worker")]
            found[table] = sorted(db.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall(), key=repr)
    found["raw"] = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.safetensors")}
    return found


def apart(found: Any, expected: Any) -> str:
    """What one holds and the other does not."""
    if isinstance(found, int):
        return f"{found} and {expected}"
    found, expected = list(found), list(expected)
    return str(
        [[each for each in one if each not in other][:5] for one, other in ((found, expected), (expected, found))]
    )


def drive(experiment: dict[str, Any], out: Path, name: str, address: str | None) -> None:
    """A run as a process of its own, to be killed with its workers."""
    os.setsid()
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    executor = {"processes": processes.EXECUTOR, "ray": on_ray.EXECUTOR}[name]
    fleet = Fleet(workers=WORKERS[name], address=address)
    sweep(ask(schema.parse(experiment, "kills")), out, executor=executor, fleet=fleet)


def kill_driver(out: Path, draw: random.Random, longest_s: float, name: str, address: str | None) -> bool:
    """Start a run and kill its driver; whether it was killed before its end, and nothing of it stayed alive."""
    process = forkserver().Process(target=drive, args=(EXPERIMENT, out, name, address))
    process.start()
    until = time.monotonic() + 60
    while not (out / "run.sqlite").exists() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.05)
    process.join(draw.uniform(0.0, longest_s))
    killed = process.is_alive()
    process.kill()  # the driver alone: its workers notice
    process.join()
    until = time.monotonic() + 60
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return killed
        assert time.monotonic() < until, "a worker outlived its driver by a minute"
        time.sleep(0.1)


class Log:
    """Finished runs, a line each, of this session and of those before it with the same settings."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.path: Path | None = args.log
        self.settings = {name: getattr(args, name) for name in SETTINGS}
        lines = self.path.read_text().splitlines() if self.path and self.path.exists() else []
        self.runs = [found for line in lines if (found := json.loads(line))["settings"] == self.settings]

    def add(self, run: dict[str, Any]) -> None:
        self.runs.append({"settings": self.settings, **run})
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(self.runs[-1]) + "\n")

    def total(self, name: str) -> Counter[str]:
        """Of a count by kind, over all runs."""
        return sum((Counter(run[name]) for run in self.runs), Counter())

    def count(self, name: str) -> int:
        return sum(run[name] for run in self.runs)


SETTINGS = ("what", "driver_s", "most", "every", "patience", "drivers", "runs", "seed")
SLOW_S = 120.0
"""A run that takes longer says where it stands."""


def disturbed(
    executor: Executor, faults: Faults, args: argparse.Namespace, place: int, scratch: Path, fleet: Fleet, expected: Any
) -> dict[str, Any]:
    """One run with its faults, gone on with until it is finished, and compared."""
    begun, out, ended = time.monotonic(), scratch / f"run-{place}", 0
    faults.fresh(random.Random(f"{args.seed} {place}"))
    faulthandler.dump_traceback_later(SLOW_S, repeat=True)
    if args.drivers and place % max(1, args.runs // args.drivers) == 0:
        killed = kill_driver(out, faults.draw, args.driver_s, executor.name, fleet.address)
        faults.done["driver killed"] += killed
    while True:
        try:
            with faults.around(args.most):
                sweep(ask(schema.parse(EXPERIMENT, "kills")), out, executor=executor, fleet=fleet)
            break
        except ModelError:  # every worker was killed before it was ready, twice: the same command goes on
            ended += 1
    with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as db:
        failed = sum(
            db.execute(f"SELECT COUNT(*) FROM {table} WHERE status != 'ok'").fetchone()[0]
            for table in ("passes", "answers")
        )
    if failed:
        sweep(ask(schema.parse(EXPERIMENT, "kills")), out, executor=local.EXECUTOR)
    found = content(out)
    found["raw"] = {name: data for name, data in found["raw"].items() if name in expected["raw"] or not failed}
    for name, value in expected.items():
        assert found[name] == value, f"{out}: {name} differs: {apart(found[name], value)}"
    faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(out)
    return {
        "faults": dict(faults.done),
        "lost": faults.lost["Lost"],
        "failed": failed,
        "ended": ended,
        "rows": sum(len(expected[table]) for table in TABLES),
        "seconds": round(time.monotonic() - begun, 1),
    }


def campaign(
    executor: Executor, faults: Faults, args: argparse.Namespace, scratch: Path, address: str | None
) -> dict[str, Any]:
    started, log = time.monotonic(), Log(args)
    EXPERIMENT["model"] = str(checkpoint(scratch / "model", large=False, tiny=True))
    sweep(ask(schema.parse(EXPERIMENT, "kills")), scratch / "peace", executor=local.EXECUTOR)
    expected = content(scratch / "peace")
    fleet = Fleet(workers=WORKERS[executor.name], patience_s=args.patience, address=address)
    while len(log.runs) < args.runs or log.total("faults").total() < args.kills:
        if time.monotonic() - started > args.limit_s:
            break
        log.add(disturbed(executor, faults, args, len(log.runs), scratch, fleet, expected))
        print(f"{len(log.runs)} runs compared, {dict(log.total('faults'))}", file=sys.stderr, flush=True)
    return {
        "executor": executor.name,
        "faults": log.total("faults").total(),
        "by_kind": dict(log.total("faults").most_common()),
        "workers_lost_at_work": log.count("lost"),
        "runs_compared": len(log.runs),
        "sessions_that_lost_every_worker_at_the_start": log.count("ended"),
        "runs_with_a_chunk_that_lost_two_workers": sum(run["failed"] > 0 for run in log.runs),
        "outcomes_that_failed_for_that_and_were_measured_again": log.count("failed"),
        "rows_compared": log.count("rows"),
        "lost_or_different": 0,
        "seconds": round(log.count("seconds")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["processes", "ray"])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--drivers", type=int, default=0, help="drivers to kill")
    parser.add_argument("--driver-s", type=float, default=2.0, help="seconds that a driver lives, at most")
    parser.add_argument("--most", type=int, default=8, help="faults of one run, at most")
    parser.add_argument("--every", type=float, default=0.3, help="seconds between faults, on average")
    parser.add_argument("--patience", type=float, default=PATIENCE_S)
    parser.add_argument("--limit-s", type=float, default=7200.0, help="no run is begun after so many seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="finished runs, a line each: the same command goes on after the last")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("ropewalk").setLevel(logging.ERROR)
    faults = Faults(random.Random(args.seed), args.every)
    with tempfile.TemporaryDirectory() as scratch:
        if args.what == "processes":
            found = campaign(over_processes(faults), faults, args, Path(scratch), None)
        else:
            os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_worker_prestart": "0"}
            from ray.cluster_utils import Cluster

            cluster = Cluster(
                initialize_head=True, shutdown_at_exit=False, head_node_args={"num_cpus": 0, "include_dashboard": False}
            )
            for _ in range(3):
                cluster.add_node(num_cpus=1)
            try:
                found = campaign(over_ray(faults, cluster), faults, args, Path(scratch), cluster.address)
            finally:
                cluster.shutdown()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
