"""A finished run, its experiment, and everything that may be done to its directory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "trust")]

import fuzzing  # noqa: E402
from hostile_inputs import ODD, torn  # noqa: E402

import checkpoints  # noqa: E402
from ropewalk.execution.run import sweep  # noqa: E402
from ropewalk.experiment import schema  # noqa: E402
from ropewalk.experiment.prepare import ask  # noqa: E402

KEYS = {"evaluator": "self", "trunc_len": 32, "stride": 16, "alpha": 0.05, "beta": -8.0, "min_key_tokens": 5}


@dataclass(slots=True)
class Place:
    """A finished run, its experiment, and a tree beside it that nobody may touch."""

    home: Path
    run: Path = field(init=False)
    file: Path = field(init=False)
    sentinel: Path = field(init=False)
    before: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.run, self.file, self.sentinel = self.home / "run", self.home / "e.yaml", self.home / "sentinel"
        (self.home / "texts").mkdir()
        for seed in range(2):
            (self.home / "texts" / f"{seed}.txt").write_text(checkpoints.prose(seed), encoding="utf-8")
        experiment = {
            "model": str(checkpoints.save(self.home / "model", checkpoints.llama(), checkpoints.tokenizer())),
            "dtype": "float32",
            "lengths": [176, 192],
            "documents": {"files": [str(self.home / "texts" / "*.txt")]},
            "methods": {"linear": {"factor": 2}},
            "metrics": {"perplexity": {}, "longppl": KEYS, "passkey": {"trials": 2}},
        }
        self.file.write_text(yaml.safe_dump(experiment), encoding="utf-8")
        sweep(ask(schema.parse(experiment, "hostile")), self.run)
        for folder in (".", "nll", "figures"):
            (self.sentinel / folder).mkdir(parents=True, exist_ok=True)
            (self.sentinel / folder / "precious").write_bytes(b"precious")
            (self.sentinel / folder / ".a.0123456789abcdef.tmp").write_bytes(b"precious")
        self.before = self.state()

    def state(self) -> dict[str, Any]:
        """Everything beside the run, by content, and by time and links where nothing may even be replaced by itself.

        Weights may get links: an export holds them as such."""
        found: dict[str, Any] = {}
        for folder in ("sentinel", "texts", "model"):
            for path in sorted((self.home / folder).rglob("*")):
                facts = path.lstat()
                links = 0 if path.name == "model.safetensors" else facts.st_nlink
                found[str(path)] = (facts.st_mode, facts.st_mtime_ns, facts.st_size, links)
                if folder == "sentinel" and path.is_file():
                    found[str(path)] += (path.read_bytes(),)
        return found | {"names": sorted(p.name for p in self.home.iterdir() if p.name not in ("victim", "out"))}


FACTS_OF_PROMPTS = (
    "{}", "[]", "null", "7", '{"key": null, "depth": "x"}', '{"depth": 0.5}', '{"key": [1]}',
    '{"key": "1", "depth": 1e9}',
    '{"task": "../../x", "sample": 0, "depth": 0.5, "references": ["a"]}', '{"key": "12345", "depth": NaN, "more": {}}',
    "[1e999]", '["x"]', "[[1]]", "[9007199254740993, 1]", '"text"', "{", "",
)  # fmt: skip
MEANINGS = (
    "UPDATE prompts SET facts = ?", "UPDATE prompts SET facts = ? WHERE place = 1", "UPDATE prompts SET request = ?",
    "UPDATE OR REPLACE prompts SET metric = 'perplexity'", "UPDATE OR REPLACE prompts SET metric = 'nonsense'",
    "UPDATE prompts SET place = place - 1", "UPDATE prompts SET place = place + 99999", "UPDATE prompts SET length = 7",
    "DELETE FROM prompts", "INSERT INTO prompts SELECT metric, length, place + 2, request, facts FROM prompts",
    "UPDATE answers SET request = 'of nothing' || request", "UPDATE answers SET answer = ?",
    "UPDATE answers SET predicted = ?", "UPDATE answers SET nll = ?", "UPDATE answers SET nll = NULL, answer = NULL",
    "UPDATE answers SET text = ?", "UPDATE answers SET status = 'nonsense'", "UPDATE answers SET status = 'oom'",
    "UPDATE answers SET fingerprint = 'of no scheme' || rowid", "UPDATE answers SET worker = 99",
    "UPDATE passes SET document = document + 7", "UPDATE passes SET document = -1 - rowid", "UPDATE passes SET bos = 7",
    "UPDATE passes SET start = 1000000000", "UPDATE passes SET stop = 5 + rowid", "UPDATE passes SET stop = -1 - rowid",
    "UPDATE passes SET fingerprint = 'of no scheme' || rowid", "UPDATE passes SET worker = 99",
    "UPDATE passes SET file = 'documents.safetensors'", "UPDATE passes SET status = 'error', reason = NULL",
    "UPDATE workers SET versions = ?", "UPDATE workers SET device = ?", "DELETE FROM workers",
    "UPDATE schemes SET scheme = ?", "UPDATE schemes SET scheme = json_set(scheme, '$.gains', json('[[1e9]]'))",
    "UPDATE schemes SET scheme = json_set(scheme, '$.branches', json('[{}]'))",
    "UPDATE schemes SET fingerprint = 'nonsense' || rowid", "DELETE FROM schemes",
    "UPDATE OR REPLACE cells SET metric = 'nonsense'", "UPDATE OR REPLACE cells SET metric = 'answer_nll'",
    "UPDATE OR REPLACE cells SET metric = 'generated'", "UPDATE OR REPLACE cells SET length = 7",
    "UPDATE cells SET status = 'nonsense', reason = NULL", "UPDATE cells SET value = 9e999", "UPDATE cells SET n = -1",
    "UPDATE cells SET resolved = ?", "UPDATE cells SET asked = ?", "DELETE FROM cells",
)  # fmt: skip
"""Rows that SQLite and JSON take and that mean nothing."""


def sections(outside: str) -> list[Any]:
    """Metrics that a run may say it was asked for."""
    held = [{"length": length, "task": "vt", "samples": 3, "sha256": "0"} for length in (176, 192)]
    every: list[Any] = [
        {"ruler": {"files": outside}}, {"ruler": {"files": outside, "held": held}},
        {"ruler": {"files": "/", "held": 1}},
        {"ruler": {"files": "/dev/zero", "held": [held[0] | {"task": "../../x"}]}}, {"nonsense": {}}, {}, None, [], "x",
        {"tasks": {}}, {"tasks": {"tasks": ["nonsense"]}}, {"tasks": {"samples": 2000, "generate": "all"}},
        {"tasks": {"samples": 10**9}}, {"longppl": {"spans": f"{outside}/precious"}}, {"passkey": {"trials": 10_000}},
        {"longppl": KEYS | {"evaluator": outside}}, {"longppl": KEYS | {"trunc_len": 2**62}}, {"perplexity": {"x": 1}},
    ]  # fmt: skip
    return every + [{"perplexity": {}} | each for each in every if isinstance(each, dict)]


def execute(database: Path, statement: str, *values: str) -> str:
    """What was done to a database, or that it could not be."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        try:
            with db:
                db.execute(statement, values)
        except sqlite3.Error as error:
            return f"not: {error}"
    return f"{statement} {values!r:.200}"


def alter(place: Place, run: Path, draw: random.Random) -> str:
    """Do one thing to a run directory; says what."""
    what = draw.choice(["value", "value", "record", "record", "row", "byte", "cut", "file", "file", "link", "journal",
                        "meaning", "meaning", "metrics"])  # fmt: skip
    database = run / "run.sqlite"
    if database.is_symlink() or not database.is_file():  # an earlier damage put something else in its place
        return "nothing more"
    if what in ("value", "record", "row"):
        change: tuple[Any, ...] = ((draw.choice(fuzzing.TABLES), draw.randrange(20), draw.randrange(40)),)
        odd = draw.choice([*ODD, str(place.sentinel / "precious"), json.dumps(draw.choice(ODD[5:20]))])
        if what == "record":
            fuzzing._alter(database, "json", draw.randrange(20), draw.randrange(99), odd)
        else:
            fuzzing._alter(database, {"value": "set", "row": "delete"}[what], *change, odd)
        return f"{what} {change} {odd!r:.60}"
    if what == "meaning":
        statement = draw.choice(MEANINGS)
        return f"{what} {execute(database, statement, *draw.choices(FACTS_OF_PROMPTS, k=statement.count('?')))}"
    if what == "metrics":
        made = json.dumps(draw.choice(sections(str(place.sentinel))))
        statement = "UPDATE meta SET value = json_set(value, '$.experiment.metrics', json(?)) WHERE key = 'identity'"
        return f"{what} {execute(database, statement, made)}"
    if what in ("byte", "cut"):
        raw = bytearray(database.read_bytes())
        if raw:
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        database.write_bytes(raw if what == "byte" else raw[: draw.randrange(len(raw) + 1)])
        return what
    if what == "journal":
        tail = bytes.fromhex("d9d505f920a163d7") if draw.random() < 0.5 else b""
        end = draw.choice(["-journal", "-journal", "-wal", "-shm"])
        (run / f"run.sqlite{end}").write_bytes(bytes.fromhex("d9d505f920a163d7") + draw.randbytes(600) + tail)
        return what + end
    names = [str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and not p.is_symlink()]
    if what == "file":
        path = run / draw.choice(names)
        path.write_bytes(torn(draw, path.read_bytes()))
        return f"{what} {path.name}"
    more = ["figures", "nll", "report.html", "report.md", "run.lock", "run.sqlite.new", "figures/perplexity.png"]
    path, kind = run / draw.choice([*names, *more]), draw.choice(["link", "link", "folder", "pipe", "device", "hard"])
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        folder = path.suffix == ""
        match kind:
            case "link":
                path.symlink_to(place.sentinel / ("nll" if folder else "precious"))
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "device":
                path.symlink_to("/dev/zero")
            case _:
                path.symlink_to(path.name)
    return f"{kind} {path.name}"
