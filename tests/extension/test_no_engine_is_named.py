"""Who names an engine or its server: the engine's own files, and nobody else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ropewalk
from ropewalk.export import ENGINES

SOURCE = Path(ropewalk.__file__).parent
KINDS = [kind.name for each in ENGINES.values() if each.server for kind in each.server.kinds]
NAMED = re.compile(
    "|".join(rf"(?<![\w.]){re.escape(name)}(?!\w)" for name in {*ENGINES, *KINDS} - {"hf"})
    + "|SGLang|vLLM|Ollama|mlx-lm"
)
OWN = re.compile(
    "vllm|sglang|dual_chunk|mlx|run_mlx|run_llamacpp|llamacpp|llamacpp_servers|native|served_gguf|.*_gguf|gguf_file"
)
EXAMPLES = {"cli/exporting.py": ["export runs/demo --target vllm --length 1024"]}
"""What the help of a command shows."""


def said(path: Path) -> Iterator[str]:
    """Every text of a file that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.value


def test_no_code_but_its_own_names_an_engine() -> None:
    own = [path for path in (SOURCE / "export").glob("*.py") if OWN.fullmatch(path.stem)]
    others = sorted(set(SOURCE.rglob("*.py")) - set(own))
    naming = {str(path.relative_to(SOURCE)): [text for text in said(path) if NAMED.search(text)] for path in others}
    assert {path: texts for path, texts in naming.items() if texts} == EXAMPLES
    assert all(any(NAMED.search(text) for text in said(path)) for path in own)
