"""The tables of docs/engines.md and README say what export does, cell by cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from export_requests import EXAMPLES, ask

from ropewalk.errors import ExportError
from ropewalk.export import ENGINES, Engine
from ropewalk.export.native import change

ROOT = Path(__file__).parents[2]
COLUMNS = ("hf", "vllm", "sglang", "mlx", "llama.cpp flags", "GGUF (llama, phi3)", "GGUF (others)")
GGUF = {"GGUF (llama, phi3)": ("llama", "phi3"), "GGUF (others)": ("qwen2", "qwen3", "gptneox", "gemma3")}
DROPS = "truncate"


def table(file: str) -> dict[str, dict[str, str]]:
    """method -> column -> cell, out of the table whose first line names the columns."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    start = lines.index(f"| method | {' | '.join(COLUMNS)} |")
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name.strip("`")] = dict(zip(COLUMNS, cells, strict=True))
    return rows


def fidelity(method: str, column: str) -> str:
    """What export says of a plain checkpoint: exact, approximated, or refused."""
    try:
        asked = ask(method, 16384, **EXAMPLES.get(method, {}))
        if column not in GGUF:
            return ENGINES[column.removesuffix(" flags")].configure(asked).fidelity
        for architecture in GGUF[column]:
            change(asked, architecture)
        return "approximated" if (asked.rotation.inv_freq == 0).any() else "exact"
    except ExportError:
        return "impossible"


@pytest.mark.parametrize("method", [*EXAMPLES, DROPS])
@pytest.mark.parametrize("column", COLUMNS)
def test_cell(method: str, column: str) -> None:
    assert table("docs/engines.md")[method][column] == fidelity(method, column)


def test_every_method_is_there_and_nothing_else() -> None:
    assert set(table("docs/engines.md")) == {*EXAMPLES, DROPS}


def test_what_each_engine_has_beside_its_configuration() -> None:
    """Kinds of server, tokens that they leave free, BOS in their texts; a proof here, files; and what it takes."""
    assert {name: (engine.name, *beside(engine)) for name, engine in ENGINES.items()} == {
        "hf": ("hf", [], None, False, "here", "files", "code"),
        "vllm": ("vllm", ["vllm"], 1, False, "files"),
        "sglang": ("sglang", ["sglang"], 7, False, "files", "branches"),
        "llama.cpp": ("llama.cpp", ["llama-server", "llama-cpp-python"], 1, True, "here", "files", "reads_gguf"),
        "mlx": ("mlx", [], None, False, "here", "files"),
    }


def beside(engine: Engine) -> tuple[object, ...]:
    server = engine.server
    has = {
        "here": engine.here is not None,
        "files": engine.artefacts is not None,
        **{name: getattr(engine, name) for name in ("reads_gguf", "branches", "code")},
    }
    kinds = [kind.name for kind in server.kinds] if server else []
    return (kinds, server and server.room, bool(server and server.bos), *(name for name, true in has.items() if true))


def test_readme_has_the_same_table() -> None:
    assert table("README.md") == table("docs/engines.md")
