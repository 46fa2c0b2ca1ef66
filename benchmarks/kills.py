"""Kill a small strand sweep with its report at random moments, resume it, and compare with a run left in peace.

    python benchmarks/kills.py --kills 240 --fresh 30

Two ways to die, both by SIGKILL: from outside at a time drawn from the sweep's whole duration, and from inside at a
step drawn from everything that touches the disk (a raw file, a row in a transaction, a rename, a page of the report).
`--fresh` of the kills hit `python -m ropewalk run` and `report` from the start of the interpreter on; the others hit
children of a server that has everything imported and strand loaded, which spares five seconds each. After each kill
every finished row must still be there, unaltered, and every raw file that a row names whole. After some kills the run
is finished and compared: tables, raw files and printed results, byte for byte.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import victim
from victim import EXPERIMENT, PHASES, THREADS

ROUND = 8
"""Kills, at most, before a run is finished and compared."""
FRESH = "a fresh process"
STEPS = 90
"""Steps on the disk of one sweep, about; a resumed one has fewer, and then comes to its end."""
REPORTS = 0.25
"""Share of the sessions that go on to the report; drawing its pictures takes longer than the sweep."""

APART = {"finished_at", "worker"}


def rows(out: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row but its time and its worker's number, which counts sessions; nothing before there is a run."""
    if not (out / "run.sqlite").is_file():
        return {}
    with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as db:
        found = {}
        for table in ("documents", "schemes", "passes", "prompts", "answers", "cells"):
            names = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] not in APART]
            found[table] = sorted(db.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall(), key=repr)
        return found


def whole(out: Path) -> None:
    """Every raw file that a row names is what was written."""
    if not (out / "run.sqlite").is_file():
        return
    with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as db:
        files = db.execute("SELECT file, sha256 FROM passes WHERE status = 'ok'").fetchall()
    for file, digest in files:
        assert hashlib.sha256((out / file).read_bytes()).hexdigest() == digest, file


def content(out: Path) -> dict[str, Any]:
    """What a finished run is: rows, raw bytes, printed results."""
    from ropewalk.experiment.results import Run
    from ropewalk.experiment.verify import verify_rows

    count, wrong = verify_rows(out)
    assert not wrong, wrong
    raw = {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.safetensors"))}
    assert not list(out.rglob("*.tmp"))
    if (out / "report.html").exists():
        assert (out / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    return {"cells": count, "rows": rows(out), "raw": raw, "printed": json.dumps(Run.open(out).rows())}


def difference(expected: Any, found: Any) -> str:
    """Where two contents differ first."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = [key for key in expected | found if expected.get(key) != found.get(key)]
        return f"{keys[0]}: {difference(expected.get(keys[0]), found.get(keys[0]))}"
    if isinstance(expected, list) and isinstance(found, list):
        return difference(*next((a, b) for a, b in itertools.zip_longest(expected, found) if a != b))
    return f"{str(expected)[:400]} became {str(found)[:400]}"


class Killer:
    """Starts victims and ends them; the server finds `victim` beside this file."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["victim"])
        self.deaths: Counter[str] = Counter()

    def run(self, out: Path, reports: bool, after: float | None = None, die_at: int | None = None) -> float | None:
        """One session, killed after so many seconds or at a step, or not at all; its seconds if it came to its end."""
        phase = self.context.Value("i", 0)
        process = self.context.Process(target=victim.victim, args=(out, phase, die_at, reports))
        started = time.monotonic()
        process.start()
        process.join(after)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            self.deaths[PHASES[phase.value]] += 1
            return None
        if process.exitcode != 0:
            raise RuntimeError(f"a victim ended with {process.exitcode}")
        return time.monotonic() - started

    def fresh(self, out: Path, file: Path, longest: float) -> bool:
        """`python -m ropewalk run` and `report`, killed at a random moment from the interpreter's start on; whether it
        came to its end before."""
        program = f'"{sys.executable}" -m ropewalk'
        command = f'{program} run "{file}" --out "{out}" && exec {program} report "{out}"'
        process = subprocess.Popen(
            ["bash", "-c", command],
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": str(THREADS)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.draw.uniform(0, longest))
        killed = process.poll() is None
        if killed:
            os.killpg(process.pid, signal.SIGKILL)
            self.deaths[FRESH] += 1
        process.wait()
        with contextlib.suppress(ProcessLookupError):  # until the last of them is gone, and with it its lock
            while killed:
                os.killpg(process.pid, 0)
                time.sleep(0.05)
        return not killed

    def session(self, out: Path, file: Path, seconds: dict[bool, float], fresh: float) -> bool:
        """One session that is to be killed, in one of the ways; whether it came to its end before."""
        if self.draw.random() < fresh:
            return self.fresh(out, file, 4 * seconds[False])
        reports = self.draw.random() < REPORTS
        if self.draw.random() < 0.5:
            return self.run(out, reports, after=self.draw.uniform(0, seconds[reports])) is not None
        return self.run(out, reports, die_at=self.draw.randint(1, STEPS)) is not None


def campaign(kills: int, fresh: int, seed: int) -> dict[str, Any]:
    killer = Killer(seed)
    started = time.monotonic()
    compared, kept = 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        killer.run(Path(scratch) / "first", True)  # the server's start
        seconds = {reports: killer.run(Path(scratch) / f"peace-{reports}", reports) or 0.0 for reports in (False, True)}
        expected = content(Path(scratch) / "peace-True")
        file = Path(scratch) / "kills.yaml"
        file.write_text(json.dumps(EXPERIMENT), encoding="utf-8")
        while (so_far := sum(killer.deaths.values())) < kills:
            out = Path(scratch) / f"run-{compared}"
            before: dict[str, list[tuple[Any, ...]]] = {}
            ended = False
            for _ in range(ROUND):
                share = fresh / kills if killer.deaths[FRESH] < fresh else 0.0
                ended = killer.session(
                    out, file, seconds, 1.0 if kills - so_far <= fresh - killer.deaths[FRESH] else share
                )
                now = rows(out)
                whole(out)
                for table in before:
                    assert set(before[table]) <= set(now[table]), f"rows of {table} were lost or altered"
                kept += sum(map(len, before.values()))
                before = now
                if ended:
                    break
            if not ended:
                killer.run(out, killer.draw.random() < REPORTS)
            found = content(out)
            for name in found:
                assert found[name] == expected[name], f"{out}: {difference(expected[name], found[name])}"
            compared += 1
            print(f"{sum(killer.deaths.values())} kills, {compared} runs compared: {dict(killer.deaths)}", flush=True)
            shutil.rmtree(out)
    deaths = dict(killer.deaths.most_common())
    counts = {"kills": sum(deaths.values()), "by_phase": deaths, "runs_compared": compared, "rows_compared": kept}
    return counts | {"cells": expected["cells"], "seconds": round(time.monotonic() - started)}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--kills", type=int, default=240)
    asked.add_argument("--fresh", type=int, default=30)
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    print(json.dumps(campaign(given.kills, given.fresh, given.seed), indent=2))


if __name__ == "__main__":
    main()
