"""What takes too long for a test: very many bad inputs, edits of a run's every number, batch shapes on a GPU.

    python benchmarks/faults.py fuzz [--scale 1] [--only NAME]
    python benchmarks/faults.py edits [--count 500]
    python benchmarks/faults.py batches [--model strand] [--dtype auto]

Kills are in benchmarks/kills.py. Each prints JSON; docs/results/trust.md says what was measured, and on what.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "trust"), str(ROOT / "tests" / "experiment")]

HANG_S = 5


class Hang(BaseException):
    """Not an Exception: whoever turns those into refusals must not turn this into one."""


def small_run(folder: Path) -> Path:
    """A finished run of every metric on a random two-layer model."""
    import checkpoints
    from ropewalk.experiment import schema
    from ropewalk.experiment.prepare import ask
    from ropewalk.experiment.run import sweep

    (folder / "texts").mkdir()
    for seed in range(2):
        (folder / "texts" / f"{seed}.txt").write_text(checkpoints.prose(seed), encoding="utf-8")
    key = {"evaluator": "self", "trunc_len": 32, "stride": 16, "alpha": 0.05, "beta": -8.0, "min_key_tokens": 5}
    experiment = {
        "model": str(checkpoints.save(folder / "model", checkpoints.llama(), checkpoints.tokenizer())),
        "dtype": "float32",
        "lengths": [192, 256],
        "documents": {"files": [str(folder / "texts" / "*.txt")]},
        "methods": {"yarn": {"factor": 2}},
        "metrics": {"perplexity": {}, "longppl": key, "passkey": {"trials": 2}},
    }
    sweep(ask(schema.parse(experiment, "faults")), folder / "run")
    return folder / "run"


@contextlib.contextmanager
def watchdog() -> Iterator[None]:
    """Raise in whatever takes longer than HANG_S."""

    def hung(*_: Any) -> None:
        raise Hang(f"an input took more than {HANG_S} s")

    signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _fuzzed(target: Any, count: int, seed: int) -> dict[str, Any]:
    import fuzzing
    import hypothesis

    tally, slowest, started = fuzzing.Tally(), 0.0, time.monotonic()
    settings = hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    @hypothesis.seed(seed)
    @settings
    @hypothesis.given(target.strategy)
    def each(value: Any) -> None:
        nonlocal slowest
        begun = time.monotonic()
        with watchdog():
            tally.check(target, value)
        slowest = max(slowest, time.monotonic() - begun)

    each()
    counts = {"inputs": tally.taken + tally.refused, "taken": tally.taken, "refused": tally.refused}
    return {**counts, "slowest_s": round(slowest, 2), "seconds": round(time.monotonic() - started)}


def fuzz(scale: float, only: str | None, seed: int) -> dict[str, Any]:
    """Run every target of tests/trust/fuzzing.py; stops at the first traceback, hang or bad value taken."""
    import fuzzing

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        targets = fuzzing.TARGETS | {"run.sqlite": fuzzing.database_target(small_run(Path(scratch)))}
        for name, target in targets.items():
            if only not in (None, name):
                continue
            found[name] = _fuzzed(target, max(1, round(scale * target.long)), seed)
            print(name, found[name], file=sys.stderr, flush=True)
    return {"inputs": sum(each["inputs"] for each in found.values()), "targets": found}


def edits(count: int, seed: int) -> dict[str, Any]:
    """Alter one number of a finished run at a time, anywhere in the store; `verify` must say so."""
    from test_verify import ALL, UNDETERMINED, altered, complaint

    draw = random.Random(seed)
    noticed, exempt, missed = 0, 0, []
    with tempfile.TemporaryDirectory() as scratch:
        run = small_run(Path(scratch))
        assert complaint(run) == "", ALL
        pristine = (run / "run.sqlite").read_bytes()
        for _ in range(count):
            with contextlib.closing(sqlite3.connect(run / "run.sqlite")) as db, db:
                table = draw.choice(["documents", "rotations", "passes", "trials", "cells"])
                column = draw.choice([row[1] for row in db.execute(f"PRAGMA table_info({table})")])
                rowid = draw.choice([row[0] for row in db.execute(f"SELECT rowid FROM {table}")])
                ((value,),) = db.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", [rowid])
                db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", [altered(value), rowid])
            if (table, column) in UNDETERMINED:
                exempt += 1
            elif complaint(run):
                noticed += 1
            else:
                missed.append([table, column, rowid, value])
            (run / "run.sqlite").write_bytes(pristine)
        shutil.rmtree(run)
    return {"edits": count, "noticed": noticed, "times_of_day": exempt, "missed": missed}


def batches(name: str, dtype: str) -> dict[str, Any]:
    """Token losses of the same rows, alone (again) and in batches of 2 to 16: how far they are from alone."""
    import torch

    import ropewalk as rw
    from ropewalk.corpus import builtin, tokenize
    from ropewalk.methods import make_params, resolve
    from ropewalk.scheme import Scheme
    from ropewalk.scoring import NllRow, fast, score, split

    loaded = rw.load(name, dtype=dtype)
    length = 2 * loaded.geometry.window("stack").length
    documents = [tokenize(loaded.tokenizer, each) for each in builtin.builtin_documents(4)]
    rotations = [
        resolve(loaded.geometry, "yarn", make_params("yarn", {"factor": factor}), length).rotation
        for factor in (2, 3, 4, 5)
    ]
    rows = [
        NllRow(ids=each.ids[:length], scheme=Scheme(rotation=rotation)) for rotation in rotations for each in documents
    ]
    parts = split(loaded.model)

    def losses(at_once: int) -> tuple[np.ndarray[Any, Any], int]:
        """Losses of all rows, and in how many passes they were made."""
        made = list(score(loaded.model, parts, rows, at_once * length))
        outcomes = {index: out for batch in made for index, out in batch}
        return np.stack([outcomes[i] for i in range(len(rows))]).astype(np.float64), len(made)

    found: dict[str, Any] = {"model": name, "device": loaded.provenance.device, "dtype": loaded.provenance.dtype}
    found |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": len(rows), "length": length}
    with fast(loaded.model, parts, compiled=False) as parts:
        alone, _ = losses(1)
        for at_once in (1, 2, 4, 8, 16):
            again, passes = losses(at_once)
            off, rowwise = np.abs(again - alone), np.abs(again.mean(1) - alone.mean(1))
            found[f"{at_once} rows at once"] = {
                "passes": passes,
                "largest difference of a token, nats": float(off.max()),
                "mean difference of a token, nats": float(off.mean()),
                "largest difference of a document's mean, nats": float(rowwise.max()),
            }
    return found


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("what", choices=["fuzz", "edits", "batches"])
    asked.add_argument("--scale", type=float, default=1.0, help="inputs, as a multiple of the full number")
    asked.add_argument("--only", help="one target of fuzz")
    asked.add_argument("--count", type=int, default=500, help="edits")
    asked.add_argument("--model", default="strand")
    asked.add_argument("--dtype", default="auto", help="of batches")
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    if given.what == "fuzz":
        found = fuzz(given.scale, given.only, given.seed)
    else:
        found = edits(given.count, given.seed) if given.what == "edits" else batches(given.model, given.dtype)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
