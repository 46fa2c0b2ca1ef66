"""Damaged run directories through every verb."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

from hostile_damage import Place, alter
from hostile_watch import Broken, Tally, require_plain, row, watched

from ropewalk.report import write

READERS = ("results", "recommend", "verify", "compare", "report")
"""Verbs that open nothing but the run, whatever it names."""
forbidden: list[str] = []
"""What no path that is opened or listed now may lie in."""


def opening(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: opening or listing what is forbidden is a break."""
    watching = forbidden and event in ("open", "os.listdir", "os.scandir")
    if watching and str(arguments[0]).startswith(forbidden[0]):
        raise Broken(f"{event} of {arguments[0]}")


sys.addaudithook(opening)


def verbs(place: Place, run: Path) -> dict[str, list[str]]:
    """What is typed, by verb; going on comes last, as it alone changes what the others read."""
    out = str(place.home / "out")
    return {
        "results": ["results", str(run)],
        "recommend": ["recommend", str(run), "--length", "192", "--partial"],
        "verify": ["verify", str(run)],
        "verify --cells": ["verify", str(run), "--cells", "1"],
        "compare": ["compare", str(run), str(place.run)],
        "export": ["export", str(run), "--target", "hf", "--length", "192", "--partial", "--out", out],
        "plan": ["plan", str(place.file), "--out", str(run), "--no-probe"],
        "report": ["report", str(run), "--partial"],
        "run --out": ["run", str(place.file), "--out", str(run)],
    }


def typed(arguments: list[str]) -> tuple[int, str]:
    """Exit code and what is printed of a command in this process."""
    from ropewalk.cli import app, err
    from ropewalk.terminal import run_app

    sys.argv, said = ["ropewalk", *arguments], io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return run_app(app, err), said.getvalue()


def apart(arguments: list[str]) -> tuple[int, str]:
    """The same in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "ropewalk", *arguments], capture_output=True, text=True,
                          errors="replace")  # fmt: skip
    if "Traceback" in done.stderr:
        raise Broken(f"traceback of {arguments}: {done.stderr[-1500:]}")
    return done.returncode, done.stdout + done.stderr


def directories(indices: range, seed: int, separate: int, share: float) -> dict[str, Any]:
    """Damaged run directories through every verb, or a random share of them; each `separate`-th in a process of its
    own."""
    found: dict[str, Tally] = {}
    kinds: Counter[str] = Counter()
    calls = 0
    quick = mock.patch.object(write, "png", return_value=b"")  # drawing takes seconds, on what the page has taken
    with quick, tempfile.TemporaryDirectory() as home:
        place, victim = Place(Path(home)), Path(home) / "victim"
        shutil.copytree(place.run, victim)
        for verb, arguments in verbs(place, victim).items():  # imports are no input's time
            code, said = typed(arguments)
            if code:
                raise Broken(f"exit {code} of {verb} on a whole run: {said[-300:]}")
        for path in (victim, place.home / "out"):
            shutil.rmtree(path, ignore_errors=True)
        for index in indices:
            draw = random.Random(f"directory {seed} {index}")
            shutil.copytree(place.run, victim)
            done = [alter(place, victim, draw) for _ in range(draw.choice([1, 1, 1, 2, 3]))]
            kinds[done[0].split()[0].split("-")[0]] += 1
            for verb, arguments in verbs(place, victim).items():
                if draw.random() >= share:
                    continue
                calls += 1
                tally, how = found.setdefault(verb, Tally()), apart if calls % separate == 0 else typed
                begun = time.monotonic()
                forbidden[:] = [str(place.sentinel)] if verb in READERS else []
                try:
                    with watched((index, verb, done)):
                        code, said = how(arguments)
                    forbidden.clear()
                    require_plain(said, kept="\n")
                    if place.state() != place.before:
                        raise Broken("touched a file outside")
                except Exception as wrong:
                    raise Broken(f"traceback {type(wrong).__name__}: {wrong}: {index, verb, done}") from wrong
                except Broken as wrong:
                    raise Broken(f"{wrong}: {index, verb, done}") from wrong
                tally.inputs += 1
                tally.taken += code in (0, 1)
                tally.refused += code == 2
                if how is typed:
                    tally.slowest_s = max(tally.slowest_s, time.monotonic() - begun)
                if code not in (0, 1, 2):
                    raise Broken(f"exit {code}: {index, verb, done}: {said[-300:]}")
            for path in (victim, place.home / "out"):
                shutil.rmtree(path, ignore_errors=True)
            if (index + 1) % 20 == 0:
                print(index + 1, {verb: row(each) for verb, each in found.items()}, file=sys.stderr, flush=True)
    return {"directories": len(indices), "damages": dict(kinds), "verbs": found}
