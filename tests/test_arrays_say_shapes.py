"""Every array of a signature says its shape: in a suffix of its name, or in a docstring of function, class or alias."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ropewalk

ROOT = Path(ropewalk.__file__).parent
PLAIN = "FloatArray"
"""The one alias that says a dtype alone, and is held to what NDArray is."""
ARRAY = re.compile(rf"\b(NDArray|ArrayLike|{PLAIN}|Tensor)\b")
SUFFIX = re.compile(r"_[A-Z][A-Za-z0-9]{0,5}$")
SHAPE = re.compile(r"`\[[A-Za-z0-9_ .,+*/()-]+\]`|(same|own|any|whose) shape|\bShapes: ")


def arrays(function: ast.FunctionDef) -> Iterator[str]:
    """Parameters that are arrays, and `return`."""
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    for name, said in (*((each.arg, each.annotation) for each in given), ("return", function.returns)):
        text = "" if said is None else ast.unparse(said)
        if ARRAY.search(text) and "Callable" not in text:
            yield name


def alias(assigned: ast.Assign) -> str:
    """The name that an assignment gives to a type of arrays; empty for what is none."""
    target, value = assigned.targets[0], assigned.value
    named = isinstance(target, ast.Name) and target.id != PLAIN
    is_type = isinstance(value, ast.Subscript | ast.BinOp) and ARRAY.search(ast.unparse(value))
    return ast.unparse(target) if named and is_type else ""


def silent(tree: ast.Module) -> tuple[int, list[str]]:
    """How many functions and aliases are of arrays, and those that leave a shape out."""
    count, found = 0, []

    def look(node: ast.Module | ast.ClassDef, around: str) -> None:
        nonlocal count
        around += ast.get_docstring(node) or ""
        for each, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(each, ast.ClassDef):
                look(each, around)
            elif isinstance(each, ast.Assign) and (name := alias(each)):
                count += 1
                if not (isinstance(after, ast.Expr) and SHAPE.search(ast.unparse(after))):
                    found.append(name)
            elif isinstance(each, ast.FunctionDef) and (names := list(arrays(each))):
                count += 1
                if not SHAPE.search(around + (ast.get_docstring(each) or "")):
                    found.extend(f"{each.name}: {name}" for name in names if not SUFFIX.search(name))

    look(tree, "")
    return count, found


def test_every_array_of_a_signature_says_its_shape() -> None:
    found = {path: silent(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(ROOT.rglob("*.py"))}
    assert sum(count for count, _ in found.values()) > 200
    assert {str(path.relative_to(ROOT)): names for path, (_, names) in found.items() if names} == {}


def test_the_test_would_notice() -> None:
    source = '"""M."""\ndef f(a: NDArray[Any], b_N: ArrayLike, n: int) -> Tensor:\n    """A thing{}."""'
    assert silent(ast.parse(source.format(""))) == (1, ["f: a", "f: return"])
    assert silent(ast.parse(source.format(" `[N]`"))) == (1, [])
    private = '"""M."""\nclass _C:\n    def _f(self, a: NDArray[Any]) -> int:\n        """A thing."""'
    assert silent(ast.parse(private)) == (1, ["_f: a"])
    named = 'Ids = NDArray[np.int32] | None\n"""Tokens{}."""\nCOUNT = 3'
    assert silent(ast.parse(named.format(""))) == (1, ["Ids"])
    assert silent(ast.parse(named.format(" `[T]`"))) == (1, [])
