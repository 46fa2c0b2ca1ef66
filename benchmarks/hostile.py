"""A campaign of hostile input over all that ropewalk reads: nothing may end in a traceback, take over 10 s or 2 GB,
print a terminal code, or touch a file outside its place; who only reads a run opens none there.

    python benchmarks/hostile.py [--scale 1] [--verbs 1] [--processes 2] [--seed 0] [--only KIND ...]

Prints a JSON table, one row a kind; stops at the first break and says which input it was.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import yaml
from safetensors.numpy import save as save_safetensors

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "trust")]

import fuzzing  # noqa: E402

import checkpoints  # noqa: E402
from ropewalk import methods  # noqa: E402
from ropewalk.corpus import tokenize, tried  # noqa: E402
from ropewalk.corpus.documents import local_document  # noqa: E402
from ropewalk.errors import RopewalkError, visible  # noqa: E402
from ropewalk.execution.run import sweep  # noqa: E402
from ropewalk.experiment import schema  # noqa: E402
from ropewalk.experiment.prepare import ask  # noqa: E402
from ropewalk.experiment.store import Store  # noqa: E402
from ropewalk.export import ENGINES, asking, endpoint  # noqa: E402
from ropewalk.files import sha256  # noqa: E402
from ropewalk.models import ModelSpec  # noqa: E402
from ropewalk.models.load import read_tokenizer  # noqa: E402
from ropewalk.report import write  # noqa: E402
from ropewalk.terminal import csv_text, json_text, results_table  # noqa: E402
from ropewalk.tuning.markdown import escaped  # noqa: E402

LIMIT_S = 10
PATIENCE = 9
MEMORY = 2**31
DAMAGED = 2_000
"""Run directories."""
ODD = (
    None, True, -1, 0, 7, 2**63, -(2**63), 10**400, 1e308, float("nan"), float("inf"), "", "x", "../../precious", "\0",
    "\x1b[2J\x1b]0;owned\x07", "<script>alert(1)</script>", "| a | b\n| - | -", "=1+1", "\u202e", "a" * 10**5, [], {},
    [[]], {"a": None}, [None] * 50, "1:30:00", "0x" + "f" * 300, "/dev/zero", "/**",
)  # fmt: skip
"""Values of every kind, and names that other programs would act on."""


class Broken(BaseException):
    """Not an Exception: whoever turns those into refusals must not turn this into one."""


@contextlib.contextmanager
def watched(what: object) -> Iterator[None]:
    """End what works for more than LIMIT_S, or takes PATIENCE times as long, as other programs may use the machine."""
    begun, cpu = time.monotonic(), time.process_time()

    def late(*_: Any) -> None:
        if time.process_time() - cpu > LIMIT_S or time.monotonic() - begun > PATIENCE * LIMIT_S:
            raise Broken(f"more than {LIMIT_S} s: {what!r}"[:2000])

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@dataclass(slots=True)
class Tally:
    inputs: int = 0
    taken: int = 0
    refused: int = 0
    slowest_s: float = 0.0

    def count(self, check: Callable[[Any], None], value: Any) -> None:
        """One input: it is taken, or refused in one line without terminal codes."""
        begun = time.monotonic()
        try:
            with watched(value):
                check(value)
            self.taken += 1
        except RopewalkError as refusal:
            require_plain(str(refusal))
            self.refused += 1
        except Exception as wrong:
            raise Broken(f"traceback {type(wrong).__name__}: {wrong} of {value!r}"[:2000]) from wrong
        self.inputs += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - begun)


def require_plain(text: str, kept: str = "") -> None:
    if visible(text, kept) != text:
        raise Broken(f"printed a terminal code or another line: {text[:500]!r}")


# --- kinds of input ---------------------------------------------------------------------------------------------------
Draw = Callable[[random.Random], Any]


def damaged(draw: random.Random, value: Any) -> Any:
    """A JSON value with one to three places replaced, as bytes; sometimes bytes of it are other bytes."""
    for _ in range(draw.randint(1, 3)):
        with contextlib.suppress(AttributeError, TypeError, KeyError, IndexError):
            value = fuzzing.replaced(value, draw.choice([(), *fuzzing._paths(value)]), draw.choice(ODD))
    raw = json.dumps(value).encode("utf-8", "surrogatepass")
    return raw if draw.random() < 0.7 else torn(draw, raw)


def torn(draw: random.Random, raw: bytes) -> bytes:
    made = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        if made:
            made[draw.randrange(len(made))] = draw.randrange(256)
    return bytes(made[: draw.choice([len(made), len(made), draw.randint(0, len(made))])])


IDS = np.array([7, 3, 9, 4], dtype=np.int32)
FACTS: dict[str, Any] = {
    "/version": {"version": "1"},
    "/v1/models": {"data": [{"id": "m"}]},
    "/get_server_info": {"version": "1"},
    "/props": {"build_info": "b1"},
    "/openapi.json": {"info": {"version": "1"}},
    "/generate": {"meta_info": {"input_token_logprobs": [[None, 7], [-1.0, 3], [-2.0, 9], [-1.5, 4]]}},
    "/completion": {"completion_probabilities": [{"id": 3, "logprob": -1.0}]},
}
COMPLETIONS: dict[str, Any] = {
    "vllm": [None, *({str(t): {"logprob": -1.0}} for t in IDS[1:])],
    "llama-cpp-python": {"token_logprobs": [None, -1.0, -1.0, -1.0]},
}


def server_answer(draw: random.Random) -> tuple[str, dict[str, tuple[int, bytes]]]:
    kind = draw.choice(["vllm", "sglang", "llama-server", "llama-cpp-python"])
    name = {"vllm": "prompt_logprobs"}.get(kind, "logprobs")
    answers = FACTS | {"/v1/completions": {"choices": [{name: COMPLETIONS.get(kind)}]}}
    answers |= {} if kind == "llama-server" else {"/props": None}
    said = {path: (200 if body is not None else 404, json.dumps(body).encode()) for path, body in answers.items()}
    for path in draw.sample(sorted(answers), draw.randint(1, 3)):
        said[path] = (draw.choice([200] * 9 + [204, 301, 500]), damaged(draw, answers[path]))
    return kind if kind in ("vllm", "sglang") else "llama.cpp", said


def check_server(given: tuple[str, dict[str, tuple[int, bytes]]]) -> None:
    target, said = given
    asking.Server._answer = lambda self, path, data: said.get(path, (404, b"null"))  # type: ignore[method-assign]
    found = endpoint.run("http://127.0.0.1:1", ENGINES[target].server, IDS, str)
    assert np.isfinite(found.nll[1:]).all()


ROTATION = {"schema": 1, "rope_theta": 10000.0, "lambda": [1.0] * 7 + [2.0], "attention_factor": 1.1}
scratch = Path(tempfile.mkdtemp(prefix="ropewalk-hostile-"))


def check_rotation_file(raw: bytes) -> None:
    path = scratch / "winner.json"
    path.write_bytes(raw)
    params = methods.make_params("searched", methods.inlined("searched", {"file": str(path)}))
    fuzzing.check_rotation(methods.resolve(fuzzing.GEOMETRY, "searched", params, 512).rotation)


ARRAYS = save_safetensors({"nll": np.linspace(0, 9, 63, dtype=np.float32), "ids": np.arange(9, dtype=np.int32)})


def safetensors_file(draw: random.Random) -> bytes:
    size = struct.unpack("<Q", ARRAYS[:8])[0]
    header, data = ARRAYS[8 : 8 + size], ARRAYS[8 + size :]
    if draw.random() < 0.5:
        return torn(draw, ARRAYS)
    header = damaged(draw, json.loads(header))
    size = draw.choice([len(header)] * 6 + [0, 2**63, 2**32, len(header) + 1])
    return struct.pack("<Q", size) + header + data


def check_safetensors(raw: bytes) -> None:
    (scratch / "raw.safetensors").write_bytes(raw)
    Store(scratch, None).read_arrays("raw.safetensors", sha256(raw))  # type: ignore[arg-type]


def name(draw: random.Random) -> str:
    codes = ["\x1b[31m", "\x9b2J", "\x07", "\r", "\n", "\u202e", "\u2028", "\ud800", "<b>", "[red]", "`", "|", "=", "é"]
    return "".join(draw.choice([*codes, "a", "yarn factor=4 "]) for _ in range(draw.randint(1, 12)))


def check_name(text: str) -> None:
    from rich.console import Console

    row = {"label": text, "length": 128, "metric": text, "value": None, "status": text, "reason": text}
    require_plain(csv_text([row]), kept="\n")
    require_plain(json_text({text: [text]}), kept="\n")
    require_plain(str(escaped([text])))
    require_plain(str(RopewalkError(text)))
    shown = io.StringIO()
    Console(file=shown, width=200).print(results_table([row]))
    require_plain(shown.getvalue(), kept="\n")


TOKENIZER = json.loads(checkpoints.tokenizer().backend_tokenizer.to_str())
PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "model", "added_tokens", "truncation", "padding")
BAD_PARTS: tuple[Any, ...] = (
    {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
    {"type": "Replace", "pattern": {"Regex": "."}, "content": "." * 10**6},
    {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}] * 33},
    {"type": "Replace", "pattern": {"String": ""}, "content": "aaa"},
    {"type": "Prepend", "prepend": "a" * 10**5},
    {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 1000, "pair": [],
     "special_tokens": {}},
    {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
     "pad_token": "x"},
    {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "", "max_input_chars_per_word": 10**9,
     "vocab": {"a": 0}},
)  # fmt: skip


def tokenizer_file(draw: random.Random) -> bytes:
    made = TOKENIZER | {draw.choice(PARTS): draw.choice([*BAD_PARTS, *ODD])}
    if draw.random() < 0.3:
        return damaged(draw, made)
    return json.dumps(made).encode("utf-8", "surrogatepass")


def check_tokenizer_file(raw: bytes) -> None:
    directory = scratch / "words"
    if not directory.is_dir():
        checkpoints.save(directory, checkpoints.llama(), checkpoints.tokenizer())
    (directory / "tokenizer.json").write_bytes(raw)
    words = read_tokenizer(ModelSpec(id=str(directory)))
    tokenize(words, local_document("eleven aaaa words. " * 20, id="d", title="d", kind="file", source="d"))


KINDS: dict[str, tuple[Draw, Callable[[Any], None], int]] = {
    "server answers": (server_answer, check_server, 60_000),
    "rotation files": (lambda draw: damaged(draw, ROTATION), check_rotation_file, 30_000),
    "safetensors": (safetensors_file, check_safetensors, 40_000),
    "names with terminal codes": (name, check_name, 15_000),
    "tokenizer files": (tokenizer_file, check_tokenizer_file, 1_500),
}
SHARE = 0.5
"""Of the counts in tests/trust/fuzzing.py."""


def fuzzed(kind: str, count: int, seed: int) -> Tally:
    """A kind of tests/trust/fuzzing.py."""
    import hypothesis

    tally, target = Tally(), fuzzing.TARGETS[kind]

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    @hypothesis.given(target.strategy)
    def each(value: Any) -> None:
        tally.count(target.check, value)

    each()
    return tally


def drawn(kind: str, count: int, seed: int) -> Tally:
    draw, tally = random.Random(f"{kind} {seed}"), Tally()
    make, check, _ = KINDS[kind]
    for _ in range(count):
        tally.count(check, make(draw))
    return tally


# --- run directories --------------------------------------------------------------------------------------------------
KEYS = {"evaluator": "self", "trunc_len": 32, "stride": 16, "alpha": 0.05, "beta": -8.0, "min_key_tokens": 5}
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


# --- all --------------------------------------------------------------------------------------------------------------
def row(tally: Tally) -> dict[str, Any]:
    return {"inputs": tally.inputs, "taken": tally.taken, "refused": tally.refused,
            "slowest_s": round(tally.slowest_s, 2)}  # fmt: skip


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
