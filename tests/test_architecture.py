"""A module imports only what stands above it, and what is pure imports no model."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ropewalk

ROOT = Path(ropewalk.__file__).parent
ORDER = (
    "errors",
    "plugins",
    "files",
    "validation",
    "plugins",
    "model_spec",
    "rope",
    "scheme",
    "methods",
    "stats",
    "corpus",
    "tasks",
    "metrics",
    "models",
    "scoring",
    "harness",
    "experiment",
    "execution",
    "report",
    "tuning",
    "export",
    "diagnosis",
    "progress",
    "notebook",
    "api",
    "terminal",
    "cli",
    "__main__",
)
"""From above to below. `api` and `terminal` do not know each other; only `cli` knows all."""

PURE = ("errors", "rope", "scheme", "methods", "stats", "tasks", "metrics")
PURE_MODULES = {f"tuning/{name}.py" for name in ("lines", "markdown", "objective", "split", "verdict")}
EFFECTS = {"torch", "transformers", "sqlite3", "safetensors", "subprocess", "typer", "rich"}


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def package(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, with its line: inside functions too, but not for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for inner in block.body
        for node in ast.walk(inner)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((f"{node.module}.{name.name}", node.lineno) for name in node.names)


def test_every_package_has_its_place():
    assert {package(path) for path in modules()} <= set(ORDER)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upwards(path):
    place = ORDER.index(package(path))
    for name, line in imported(path):
        if name == "ropewalk.__version__":
            continue
        if name.startswith("ropewalk."):
            other = name.split(".")[1]
            assert other in ORDER, f"{path}:{line}: {name}"
            assert ORDER.index(other) <= place, f"{path}:{line}: {package(path)} imports {name}, which stands below it"
        else:
            assert name != "ropewalk", f"{path}:{line}: imports the package itself"


@pytest.mark.parametrize(
    "path",
    [path for path in modules() if package(path) in PURE or str(path.relative_to(ROOT)) in PURE_MODULES],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_what_is_pure_imports_no_model_and_no_store(path):
    for name, line in imported(path):
        assert name.split(".")[0] not in EFFECTS, f"{path}:{line}: {name}"


def test_the_test_would_notice(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    from ropewalk.cli import app\n    return app\n",
        encoding="utf-8",
    )
    assert list(imported(wrong)) == [("typing.TYPE_CHECKING", 1), ("ropewalk.cli.app", 5)]


def test_nothing_names_a_metric_but_its_own_file_and_the_table():
    naming = {str(path.relative_to(ROOT)) for path in modules() if "passkey" in path.read_text(encoding="utf-8")}
    assert naming == {"metrics/passkey.py", "metrics/__init__.py"}
