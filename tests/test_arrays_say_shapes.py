"""Every array of a public signature says its shape: in a suffix of its name, or in a docstring around it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ropewalk

ROOT = Path(ropewalk.__file__).parent
ARRAY = re.compile(r"\b(NDArray|ArrayLike|FloatArray|Tensor)\b")
SUFFIX = re.compile(r"_[A-Z][A-Za-z0-9]{0,5}$")
SHAPE = re.compile(r"`\[[A-Za-z0-9_ .,+*/()-]+\]`|(same|own|any|whose) shape|\bShapes: ")


def arrays(function: ast.FunctionDef) -> Iterator[str]:
    """Parameters that are arrays, and `return`."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    for name, said in (*((each.arg, each.annotation) for each in given), ("return", function.returns)):
        text = "" if said is None else ast.unparse(said)
        if ARRAY.search(text) and "Callable" not in text:
            yield name


def silent(tree: ast.Module) -> tuple[int, list[str]]:
    """How many public functions take or give arrays, and those that leave a shape out."""
    count, found = 0, []

    def look(node: ast.Module | ast.ClassDef, around: str) -> None:
        nonlocal count
        around += ast.get_docstring(node) or ""
        for each in node.body:
            if isinstance(each, ast.ClassDef) and not each.name.startswith("_"):
                look(each, around)
            elif isinstance(each, ast.FunctionDef) and not each.name.startswith("_") and (names := list(arrays(each))):
                count += 1
                if not SHAPE.search(around + (ast.get_docstring(each) or "")):
                    found.extend(f"{each.name}: {name}" for name in names if not SUFFIX.search(name))

    look(tree, "")
    return count, found


def test_every_array_of_a_public_signature_says_its_shape() -> None:
    found = {path: silent(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(ROOT.rglob("*.py"))}
    assert sum(count for count, _ in found.values()) > 100
    assert {str(path.relative_to(ROOT)): names for path, (_, names) in found.items() if names} == {}


def test_the_test_would_notice() -> None:
    source = '"""M."""\ndef f(a: NDArray[Any], b_N: ArrayLike, n: int) -> Tensor:\n    """A thing{}."""'
    assert silent(ast.parse(source.format(""))) == (1, ["f: a", "f: return"])
    assert silent(ast.parse(source.format(" `[N]`"))) == (1, [])
