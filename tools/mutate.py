"""Which one-line changes of the source do the tests notice? Draws some at random and tries each.

    python tools/mutate.py --count 60 --seed 1 --out build/mutations

Every change is one edit within one line: an operator, comparison, sign, constant, shown text, branch, pair of arguments
or end of an interval is replaced by its opposite or neighbour. Lines are drawn first and then one change of each, so
that long formulas do not crowd out the rest. Not drawn: docstrings, annotations, decorators, `__all__`, `strict=`.

Each change is made in a copy of the package that comes first on PYTHONPATH. The files of tests nearest to it, by the
names that they say, are run until one fails, which is held to be sound only if its file passes without any change.
The same command goes on where it was stopped; OUT/mutations.json and OUT/mutations.md are whole at any time. Tests run
in forks of this process, which has imported what all of them need.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "stats": ("tests/stats", "tests/report"),
    "report": ("tests/report",),
    "metrics": ("tests/metrics", "tests/experiment", "tests/tasks"),
    "export": ("tests/export", "tests/cli", "tests/diagnose", "tests/trust"),
}
"""Folders with the tests of each package."""
GOLDEN = (
    "test_golden_files",
    "test_golden_drawn",
    "test_twins",
    "test_golden_words",
    "test_golden",
    "test_golden_exports",
)
"""Files of tests that hold numbers, pictures and words of whole reports; the last places go to those of the folder."""
NEAREST = 10
IMPORTED = ("torch", "transformers", "scipy.stats", "pandas", "altair", "vl_convert", "pydantic", "typer", "gguf")
"""What most tests import, other than ropewalk."""
OPERATORS = {
    "<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<="), "==": ("!=",), "!=": ("==",),
    "is": ("is not",), "is not": ("is",), "in": ("not in",), "not in": ("in",), "and": ("or",), "or": ("and",),
    "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "//": ("/",), "**": ("*",), "%": ("*",), "@": ("*",),
}  # fmt: skip
_PAIRS = (
    ("min", "max"), ("argmin", "argmax"), ("minimum", "maximum"), ("any", "all"), ("floor", "ceil"), ("low", "high"),
    ("ci_low", "ci_high"), ("exp", "log"), ("expm1", "log1p"), ("before", "after"),
)  # fmt: skip
NAMES = dict(_PAIRS) | {b: a for a, b in _PAIRS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One edit: the text from column `start` to `end` of a line becomes `after`."""

    file: str
    line: int
    start: int
    end: int
    before: str
    after: str

    def apply(self, source: str) -> str:
        """The source with the edit made; columns count UTF-8 bytes, as Python's own do."""
        lines = source.splitlines(keepends=True)
        line = lines[self.line - 1].encode()
        assert line[self.start : self.end].decode() == self.before
        lines[self.line - 1] = (line[: self.start] + self.after.encode() + line[self.end :]).decode()
        return "".join(lines)


def mutations(source: str, file: str) -> list[Mutation]:
    """Every edit of a module, also those that change nothing or do not compile."""
    lines = source.splitlines()
    return list(dict.fromkeys(edit for node in _mutable(ast.parse(source)) for edit in _edits(node, lines, file)))


def differs(source: str, edit: Mutation) -> bool:
    """Whether the edit compiles and changes the syntax tree."""
    try:
        return ast.dump(ast.parse(edit.apply(source))) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def _mutable(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree without what cannot change a result."""
    skipped: set[ast.AST | None] = set()
    body = getattr(node, "body", None)
    if isinstance(body, list):  # docstrings, also those below an assignment
        skipped |= {x for x in body if isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant)}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        skipped |= set(node.decorator_list)
    skipped |= {getattr(node, name, None) for name in ("annotation", "returns")}
    if isinstance(node, ast.Call):
        skipped |= {keyword for keyword in node.keywords if keyword.arg == "strict"}
    if isinstance(node, ast.Assign) and any(isinstance(x, ast.Name) and x.id == "__all__" for x in node.targets):
        return
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
        return
    if isinstance(node, ast.JoinedStr):  # before Python 3.12 its parts do not know where they stand
        return
    yield node
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from _mutable(child)


def _edits(node: ast.AST, lines: list[str], file: str) -> Iterator[Mutation]:
    """The edits of one node itself, those of its children apart."""

    def edit(line: int, start: int, end: int, after: str) -> Mutation:
        before = lines[line - 1].encode()[start:end].decode()
        return Mutation(file=file, line=line, start=start, end=end, before=before, after=after)

    def text(part: ast.expr) -> str:
        return lines[part.lineno - 1].encode()[part.col_offset : part.end_col_offset].decode()

    def whole(part: ast.expr, after: str) -> Iterator[Mutation]:
        if part.lineno == part.end_lineno and part.end_col_offset is not None:
            yield edit(part.lineno, part.col_offset, part.end_col_offset, after)

    def between(left: ast.expr, right: ast.expr) -> Iterator[Mutation]:
        if left.end_lineno == right.lineno and left.end_col_offset is not None:
            gap = lines[right.lineno - 1].encode()[left.end_col_offset : right.col_offset].decode()
            operator = gap.strip(" ()")
            at = left.end_col_offset + len(gap[: gap.find(operator)].encode())
            yield from (edit(right.lineno, at, at + len(operator), x) for x in OPERATORS.get(operator, ()))

    match node:
        case ast.BinOp():
            yield from between(node.left, node.right)
        case ast.Compare():
            for left, right in zip([node.left, *node.comparators[:-1]], node.comparators, strict=True):
                yield from between(left, right)
        case ast.BoolOp():
            for left, right in zip(node.values[:-1], node.values[1:], strict=True):
                yield from between(left, right)
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            yield from whole(node, text(node.operand))
        case ast.IfExp() if node.lineno == node.end_lineno:
            yield from whole(node, f"{text(node.orelse)} if {text(node.test)} else {text(node.body)}")
        case ast.Constant():
            yield from (x for after in _constants(node.value, node) for x in whole(node, after))
        case ast.Name(id=name) if name in NAMES and isinstance(node.ctx, ast.Load):
            yield from whole(node, NAMES[name])
        case ast.Attribute(attr=name) if name in NAMES and node.end_col_offset is not None:
            end, size = node.end_col_offset, len(name)
            yield edit(node.end_lineno or node.lineno, end - size, end, NAMES[name])
    if isinstance(node, ast.Call) and len(node.args) == 2 and node.lineno == node.end_lineno:
        first, second = node.args
        if not any(isinstance(x, ast.Starred | ast.GeneratorExp | ast.Constant) for x in node.args):
            between_them = lines[node.lineno - 1].encode()[first.end_col_offset : second.col_offset].decode()
            swapped = f"{text(second)}{between_them}{text(first)}"
            yield edit(node.lineno, first.col_offset, second.end_col_offset or 0, swapped)


def _constants(value: object, node: ast.expr) -> Iterable[str]:
    """Neighbours of a constant, as source."""
    match value:
        case bool():
            return (str(not value),)
        case int():
            return (str(value + 1), str(value - 1)) if value > 0 else (str(value + 1),)
        case float():
            return (repr(1.1 * value) if value else "0.1",)
        case str() if value and node.lineno == node.end_lineno:
            return (repr(f"{value}~"),)
    return ()


def draw(packages: Iterable[str], count: int, seed: int) -> list[Mutation]:
    """So many edits, each of another line, every line with an edit being equally likely."""
    by_line: dict[tuple[str, int], list[Mutation]] = {}
    sources: dict[str, str] = {}
    for path in (path for package in packages for path in sorted((ROOT / "src/ropewalk" / package).rglob("*.py"))):
        name = str(path.relative_to(ROOT / "src"))
        sources[name] = path.read_text(encoding="utf-8")
        for edit in mutations(sources[name], name):
            by_line.setdefault((name, edit.line), []).append(edit)
    chance = random.Random(seed)
    lines = sorted(by_line)
    chance.shuffle(lines)
    drawn = ([e for e in chance.sample(by_line[x], len(by_line[x])) if differs(sources[x[0]], e)][:1] for x in lines)
    return list(islice((edit for found in drawn for edit in found), count))


def trial(edit: Mutation, copy: Path, limit_s: float, tests: Sequence[str]) -> str:
    """The test that noticed the edit; empty if none did before the limit."""
    path = copy / edit.file
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(edit.apply(source), encoding="utf-8")
        return run(tests, copy, limit_s)
    finally:
        path.write_text(source, encoding="utf-8")


def run(tests: Sequence[str], copy: Path, limit_s: float) -> str:
    """The first test of these files that fails on this copy of the source; empty if none does."""
    with tempfile.NamedTemporaryFile("r") as output:
        words = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning", *tests]
        child = multiprocessing.get_context("fork").Process(target=_pytest, args=(words, copy, output.name))
        child.start()
        try:
            child.join(limit_s)
        finally:
            if over := child.is_alive():
                os.killpg(child.pid or 0, signal.SIGKILL)  # with what the tests themselves have started
                child.join()
        if over:
            return ""
        said = output.read()
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", said, re.M) + re.findall(r"while loading conftest '(.+)'", said)
    if child.exitcode and not failed:
        sys.exit(f"pytest ended with {child.exitcode} and no failed test:\n{said[-3000:]}")
    return failed[0] if child.exitcode else ""


def _pytest(words: list[str], copy: Path, output: str) -> None:
    """Runs tests in this process, which is a fork, as the command would."""
    os.setsid()
    os.chdir(ROOT)
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(copy))
    code = pytest.main(words)
    sys.stdout.flush()
    os._exit(int(code))


def nearest(edit: Mutation, count: int) -> list[str]:
    """So many files of tests, first those that say the names of the function and module of an edit.

    Simulations, browsers and whole runs, which take long, come last.
    """
    slow = re.compile("calibration|browser|strand|bad_runs|test_files|live|hostile")
    package, stem = edit.file.split("/")[1], Path(edit.file).stem
    source = (ROOT / "src" / edit.file).read_text(encoding="utf-8")
    around = [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno <= edit.line <= (node.end_lineno or 0)
    ]
    said = [rf"\b{re.escape(name)}\b" for name in (*around, stem if stem != "__init__" else package)]
    files = [path for folder in PACKAGES[package] for path in sorted((ROOT / folder).glob("test_*.py"))]

    def rank(path: Path) -> tuple[bool, float, int]:
        text = path.read_text(encoding="utf-8")
        times = sum(min(5, len(re.findall(name, text))) for name in said) + 5 * (stem in path.stem)
        golden = GOLDEN.index(path.stem) if path.stem in GOLDEN else len(GOLDEN)
        return bool(slow.search(path.name)), -times, golden

    named = sorted(files, key=rank)
    whole = [path for path in named[count:] if path.stem in GOLDEN[:4]]
    return [str(path.relative_to(ROOT)) for path in [*named[: count - len(whole)], *whole]]


def report(results: list[dict[str, object]], total: int) -> str:
    """Markdown: how many were caught, and the survivors."""
    survivors = [r for r in results if not r["caught_by"]]
    rows = [f"| `{r['file']}:{r['line']}` | `{_cell(str(r['old']))}` | `{_cell(str(r['new']))}` |" for r in survivors]
    head = ["| where | before | after |", "| --- | --- | --- |"]
    said = f"{len(results) - len(survivors)} of {len(results)} changes were caught ({total} drawn)."
    return "\n".join([said, "", *(head + rows if rows else ["None survived."])]) + "\n"


def _cell(line: str) -> str:
    return line.strip().replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="changes to draw")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--packages", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    parser.add_argument("--limit-s", type=float, default=120, help="of one run of tests; reaching it is not caught")
    parser.add_argument("--files", type=int, default=NEAREST, help="files of tests that each change is tried with")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    drawn = draw(asked.packages, asked.count, asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    stored = asked.out / "mutations.json"
    kept: list[dict[str, Any]] = json.loads(stored.read_text()) if stored.exists() else []
    results = [r for r in kept if r["caught_by"] or not asked.again]
    done = {tuple(r[name] for name in asdict(drawn[0])) for r in results}
    for name in IMPORTED:
        importlib.import_module(name)
    sound, broken = set[str](), set[str]()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(ROOT / "src", Path(folder) / "src"))
        for number, edit in enumerate(drawn, 1):
            if tuple(asdict(edit).values()) in done:
                continue
            started = time.monotonic()
            tests = [test for test in nearest(edit, asked.files) if test not in broken]
            source = (copy / edit.file).read_text(encoding="utf-8")
            old, new = (text.splitlines()[edit.line - 1] for text in (source, edit.apply(source)))
            while caught_by := trial(edit, copy, asked.limit_s, tests):
                file = caught_by.split("::")[0]
                if file not in tests or file in sound or not run([file], copy, asked.limit_s):
                    sound.add(file)
                    break
                print(f"left out, as it fails without a change: {file}", flush=True)
                tests.remove(file)
                broken.add(file)
            results.append(asdict(edit) | {"old": old, "new": new, "caught_by": caught_by})
            _write(stored, json.dumps(results, indent=1, ensure_ascii=False))
            _write(asked.out / "mutations.md", report(results, len(drawn)))
            wall_s = time.monotonic() - started
            print(f"{number}/{len(drawn)} {edit.file}:{edit.line} {caught_by or 'SURVIVED'} {wall_s:.0f} s", flush=True)
            print(f"  - {old.strip()}\n  + {new.strip()}", flush=True)
    print(report(results, len(drawn)))


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main()
