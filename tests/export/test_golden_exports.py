"""What every engine is told of every method, and what it is said to do differently, kept as one file.

Numbers are held against transformers, vLLM and llama.cpp elsewhere; this file holds all else, word by word. `python
tests/export/test_golden_exports.py` writes it again; read what changed before you commit it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from export_requests import EXAMPLES, GEOMETRY, LLAMA_3

from ropewalk.errors import RopewalkError
from ropewalk.export import ENGINES, Checkpoint, request
from ropewalk.rope import RopeGeometry

KEPT = Path(__file__).parent / "golden_exports.txt"
BRANCHED: dict[str, dict[str, Any]] = {
    "dca": {},
    "dca reading=released": {"reading": "released"},
    "self_extend": {"neighbor_window": 1024, "group_size": 8},
    "rerope": {"neighbor_window": 1024},
    "streaming": {},
    "truncate": {},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "yarn truncate=False": {"factor": 4, "truncate": False},
    "yarn attention_factor=1.2": {"factor": 4, "attention_factor": 1.2},
    "yarn mscale=0.7 mscale_all_dim=0.7": {"factor": 4, "mscale": 0.7, "mscale_all_dim": 0.7},
    "yarn ramp=turns": {"factor": 4, "ramp": "turns"},
    "yarn temperature=logn": {"factor": 4, "temperature": "logn"},
    "yarn compose=stack": {"factor": 2, "compose": "stack"},
    "yarn original=2048": {"factor": 8, "original_max_position_embeddings": 2048},
    "linear factor=auto": {"factor": "auto"},
    "dynamic_ntk factor=4": {"factor": 4},
    "longrope attention_factor=1.1": {"factor": 4, "attention_factor": 1.1},
    "mrrope mode=uni": {"factor": 4, "mode": "uni"},
}
SLIDING = {
    "full_attention": {"rope_type": "default", "rope_theta": 5e5},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
CASES: dict[str, tuple[RopeGeometry, Checkpoint]] = {
    "plain": (GEOMETRY, Checkpoint(name="org/model")),
    "ships llama3": (LLAMA_3, Checkpoint(name="org/model", architecture="llama")),
    "nested": (GEOMETRY, Checkpoint(name="org/model", model_type="qwen3", nested=True, architecture="qwen3")),
    "phi3": (GEOMETRY, Checkpoint(name="org/model", model_type="phi3", original_beside=True, architecture="phi3")),
    "layers": (GEOMETRY, Checkpoint(name="org/model", model_type="gemma3_text", layers=SLIDING, architecture="gemma3")),
    "uneven": (GEOMETRY, Checkpoint(name="org/model", model_type="gemma4", layers=SLIDING, uneven=True)),
}


def said() -> list[str]:
    """Lines of the file: what is exported or why nothing is, by the number of each sentence, and then the sentences."""
    numbers: dict[str, int] = {}
    rows = []
    for case, (geometry, checkpoint) in CASES.items():
        length = 4 * geometry.window().length
        for label, params in (EXAMPLES | VARIANTS | BRANCHED).items():
            for name, engine in ENGINES.items():
                method = label.split()[0]
                try:
                    asked = request(geometry, method, params, length, checkpoint, branches=engine.branches)
                    export = engine.configure(asked)
                    assert export.engine == name
                    lines = [export.fidelity, *_shown(export.config), *_command(export.command), *export.notes]
                except RopewalkError as error:
                    lines = [f"refused: {error}"]
                rows.append(f"{case} | {label} | {name} | {' '.join(str(_number(numbers, x)) for x in lines)}")
    return [*rows, *(f"{number}: {line}" for line, number in numbers.items())]


def _number(numbers: dict[str, int], line: str) -> int:
    """Numbers at six digits, so that the last ones of another machine's power make no difference."""
    short = re.sub(r"\d+\.\d{6,}", lambda found: f"{float(found[0]):.6g}", line)
    return numbers.setdefault(short, len(numbers) + 1)


def _command(words: Sequence[str]) -> Iterator[str]:
    """Words and options with their values, without the configuration that is shown before."""
    told = [word for word in words if not word.startswith("{")]
    yield from ([" ".join(told)] if told else [])


def _shown(value: Any, key: str = "") -> Iterator[str]:
    """`key value` for each leaf; of a list of numbers its ends, at six digits."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _shown(item, f"{key}.{name}" if key else str(name))
        return
    if isinstance(value, list | tuple) and value and isinstance(value[0], float):
        value = [len(value), *np.array(value)[[0, 1, -2, -1]]]
    if isinstance(value, list):
        yield f"{key} {' '.join(f'{each:.6g}' if isinstance(each, float) else str(each) for each in value)}"
    else:
        yield f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}"


def test_nothing_else_changed() -> None:
    assert said() == KEPT.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    KEPT.write_text("\n".join(said()) + "\n", encoding="utf-8")
