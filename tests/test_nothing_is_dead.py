"""Every name that a module makes is used by some code, and not by tests alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import ropewalk

ROOT = Path(ropewalk.__file__).parent
KEPT = {
    "distance_map": "what branches tell each pair of tokens, for whoever checks a method against its paper",
    "evaluate": "lm-eval's own metrics under any scheme; the metric lm_eval names it where it refuses",
    "write_spans": "tools/build_spans.py makes the spans that ship with it",
}


def made(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and constants of a module; not what a decorator registers."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            registered = any("app." in ast.unparse(each) for each in node.decorator_list)
            if not registered and not node.name.startswith("__") and node.name.strip("_"):
                yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for each in targets if isinstance(each, ast.Name) and each.id.strip("_"))


def used(trees: Iterable[ast.Module]) -> set[str]:
    """Names that are read somewhere, as themselves, or as attributes."""
    found = set[str]()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
    return found


def test_every_name_is_used_by_code() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}
    known = used(trees.values()) | set(ropewalk.__all__)
    named = ((path, name) for path, tree in trees.items() for name in made(tree))
    dead = {name: str(path.relative_to(ROOT)) for path, name in named if name not in known}
    assert dead.keys() == KEPT.keys(), dead


def test_the_test_would_notice() -> None:
    tree = ast.parse("A = 1\nB: int = A\ndef f(): return B\ndef g(): ...\n@app.command()\ndef h(): f()")
    assert set(made(tree)) - used([tree]) == {"g"}
