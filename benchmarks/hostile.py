"""A campaign of hostile input over all that ropewalk reads: nothing may end in a traceback, take over 10 s or 2 GB,
print a terminal code, or touch a file outside its place; who only reads a run opens none there.

    python benchmarks/hostile.py [--scale 1] [--verbs 1] [--processes 2] [--seed 0] [--only KIND ...]

Prints a JSON table, one row a kind; stops at the first break and says which input it was.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "trust")]

import fuzzing  # noqa: E402
from hostile_inputs import KINDS, SHARE, drawn, fuzzed, scratch  # noqa: E402
from hostile_verbs import directories  # noqa: E402
from hostile_watch import Broken, row  # noqa: E402

from ropewalk.corpus import tried  # noqa: E402
from ropewalk.export import asking  # noqa: E402

MEMORY = 2**31
DAMAGED = 2_000
"""Run directories."""


def peaks() -> dict[str, int]:
    """Most memory that this process and its children have held so far, bytes."""
    kinds = (("here", resource.RUSAGE_SELF), ("a child", resource.RUSAGE_CHILDREN))
    return {who: resource.getrusage(each).ru_maxrss * 1024 for who, each in kinds}


def campaign(
    scale: float, seed: int, only: list[str] | None = None, separate: int = 500, part: int = 0, parts: int = 1,
    share: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Everything, or one of several parts of it; raises Broken at the first thing that must not be."""
    before = peaks()
    tried.SECONDS = 2.0
    asked: dict[str, Callable[[], dict[str, Any]]] = {}
    for kind, target in fuzzing.TARGETS.items():
        count = max(20, round(scale * SHARE * target.long / parts))
        asked[kind] = lambda kind=kind, count=count: row(fuzzed(kind, count, parts * seed + part))
    for kind, (_, _, count) in KINDS.items():
        count = max(5, round(scale * count / parts))
        asked[kind] = lambda kind=kind, count=count: row(drawn(kind, count, parts * seed + part))
    every = range(part, max(3, round(scale * DAMAGED)), parts)
    asked["run directories"] = lambda: directories(every, seed, separate, share)
    answer = asking.Server._answer
    table: dict[str, Any] = {}
    try:
        for kind, work in asked.items():
            if only is None or kind in only:
                begun = time.monotonic()
                table[kind] = work()
                if kind == "run directories":
                    table[kind]["verbs"] = {verb: row(tally) for verb, tally in table[kind]["verbs"].items()}
                print(kind, table[kind], f"{time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    finally:
        asking.Server._answer = answer  # type: ignore[method-assign]
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
    peak = peaks()
    if any(peak[who] > max(MEMORY, before[who]) for who in peak):  # what this process took earlier is not the input's
        raise Broken(f"more than 2 GB: {peak}")
    return {"inputs": total(table), "peak_bytes": peak, "kinds": table}


def total(table: dict[str, Any]) -> int:
    """Of all kinds; each verb on each directory is one."""
    return sum(sum(v["inputs"] for v in each["verbs"].values()) if "verbs" in each else each["inputs"]
               for each in table.values())  # fmt: skip


def together(tables: list[Any]) -> Any:
    """Tables of parts as one: counts add up, what is slowest or a peak is the largest."""
    if not isinstance(tables[0], dict):
        return sum(tables)
    keys = dict.fromkeys(key for table in tables for key in table)
    found = {key: [table[key] for table in tables if key in table] for key in keys}
    worst = ("slowest_s", "here", "a child")
    return {key: max(values) if key in worst else together(values) for key, values in found.items()}


def spread(arguments: list[str], processes: int) -> dict[str, Any]:
    """The campaign in several processes; the first break of any ends all."""
    command = [sys.executable, __file__, *arguments, "--parts", str(processes), "--part"]
    running = [subprocess.Popen([*command, str(part)], stdout=subprocess.PIPE) for part in range(processes)]
    try:
        while any(each.poll() is None for each in running):
            if any(each.poll() for each in running):
                raise SystemExit("a part of the campaign broke")
            time.sleep(1)
        return together([json.loads(each.stdout.read()) for each in running if each.stdout])
    finally:
        for each in running:
            each.kill()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--scale", type=float, default=1.0, help="inputs, as a multiple of the full number")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--only", nargs="*")
    asked.add_argument(
        "--verbs", type=float, default=1.0, help="the share of the verbs that each directory goes through"
    )
    asked.add_argument("--processes", type=int, default=1)
    asked.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    asked.add_argument("--parts", type=int, default=1, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.processes > 1:
        again = sys.argv[1:]
        at = again.index("--processes")
        found = spread(again[:at] + again[at + 2 :], given.processes)
    else:
        found = campaign(given.scale, given.seed, given.only, 500, given.part, given.parts, given.verbs)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
