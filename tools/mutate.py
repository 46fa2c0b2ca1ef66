"""Which one-line changes of the source do the tests notice? Draws some at random and tries each.

    python tools/mutate.py --count 60 --seed 1 --out build/mutations

Every change is one edit within one line: an operator, comparison, sign, constant, shown text, branch, pair of arguments
or end of an interval is replaced by its opposite or neighbour. Lines are drawn first and then one change of each, so
that long formulas do not crowd out the rest. Not drawn: docstrings, annotations, decorators, `__all__`, `strict=`.

Each change is made in a copy of the package that comes first on PYTHONPATH, and the tests of its package are run until
one fails. The same command goes on where it was stopped; OUT/mutations.json and OUT/mutations.md are whole at any time.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "stats": ("tests/stats", "tests/report"),
    "report": ("tests/report",),
    "metrics": ("tests/metrics", "tests/experiment"),
    "export": ("tests/export",),
}
"""Folders with the tests of each package."""
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


def trial(edit: Mutation, copy: Path, limit_s: float) -> str:
    """The test that noticed the edit, `time` if the limit ended the tests; empty if none did."""
    path = copy / edit.file
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(edit.apply(source), encoding="utf-8")
        return run(edit.file.split("/")[1], copy, limit_s, edit.file)
    finally:
        path.write_text(source, encoding="utf-8")


def run(package: str, copy: Path, limit_s: float, file: str = "") -> str:
    """The first test of the package that fails on this copy of the source; empty if none does.

    Tests that name `file` as a module go first.
    """
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files_of_tests(package, file)]
    with tempfile.TemporaryFile("w+") as output:
        tests = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            code = tests.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(tests.pid, signal.SIGKILL)  # with what the tests themselves have started
            tests.wait()
            return "time"
        output.seek(0)
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", output.read(), re.M)
    return "" if code == 0 else failed[0] if failed else f"pytest's exit code {code}"


def files_of_tests(package: str, file: str = "") -> list[str]:
    """Files of tests; those that name the module first, simulations, browsers and whole runs, which take long, last."""
    slow, named = (
        re.compile("calibration|browser|strand|bad_runs|test_files|commands"),
        re.compile(rf"\b{Path(file).stem}\b"),
    )
    files = [path for folder in PACKAGES[package] for path in sorted((ROOT / folder).glob("test_*.py"))]

    def late(path: Path) -> tuple[bool, bool]:
        return bool(slow.search(path.name)), not (file and named.search(path.read_text(encoding="utf-8")))

    return [str(path.relative_to(ROOT)) for path in sorted(files, key=late)]


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
    parser.add_argument(
        "--limit-s", type=float, default=900, help="time limit of one run of tests; reaching it is caught"
    )
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    drawn = draw(asked.packages, asked.count, asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    stored = asked.out / "mutations.json"
    results: list[dict[str, object]] = json.loads(stored.read_text()) if stored.exists() else []
    done = {tuple(r[name] for name in asdict(drawn[0])) for r in results}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(ROOT / "src", Path(folder) / "src"))
        packages = sorted({edit.file.split("/")[1] for edit in drawn})
        if len(done) < len(drawn) and (broken := [x for name in packages if (x := run(name, copy, asked.limit_s))]):
            sys.exit(f"{', '.join(broken)}: fails without any change; mend that first.")
        for number, edit in enumerate(drawn, 1):
            if tuple(asdict(edit).values()) in done:
                continue
            source = (copy / edit.file).read_text(encoding="utf-8")
            old, new = (text.splitlines()[edit.line - 1] for text in (source, edit.apply(source)))
            started = time.monotonic()
            caught_by = trial(edit, copy, asked.limit_s)
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
