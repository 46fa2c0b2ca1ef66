"""The table of docs/models.md: written by `make zoo`, read by the tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import transformers
from zoo_compare import TOLERANCE, Verdict

PATH = Path(__file__).parents[2] / "docs" / "models.md"
MEANING = {
    "equal": "stock transformers and ropewalk's default path differ by less than the tolerance",
    "equal with --exact": "so does the exact path; the note says why the default one is refused",
    "refused": "ropewalk measures no such model, for the reason in the note",
    "not built": "no tiny checkpoint could be made here, so nothing is known",
    "blind": "the tiny checkpoint does not tell one rotation from another, so nothing is known",
    "crash": "a fault",
    "wrong": "a fault",
}


def written(found: Mapping[str, tuple[str, Verdict]]) -> str:
    """The page, from class to model_type and verdict."""
    counts = Counter(verdict.status for _, verdict in found.values())
    lines = [
        "# Models",
        "",
        f"Every language model with a rotation in transformers {transformers.__version__}, found by enumeration: tiny "
        "random checkpoints, token NLL under `none`, `yarn: {factor: 2}` and `linear: {factor: 2}` at twice the "
        "window, against the stock class built from an edited configuration (float32, eager attention). Equal means "
        f"{TOLERANCE:g} nats at every token. `make zoo` writes this page.",
        "",
        "| status | architectures | meaning |",
        "|---|---|---|",
        *(f"| {status} | {counts[status]} | {text} |" for status, text in MEANING.items() if counts[status]),
        "",
        "| class | model_type | status | note |",
        "|---|---|---|---|",
    ]
    for name, (model_type, verdict) in found.items():
        note = "" if verdict.status == "equal" else verdict.note.replace("|", "\\|")
        lines.append(f"| {name} | {model_type} | {verdict.status} | {note} |")
    return "\n".join(lines) + "\n"


def read() -> dict[str, str]:
    """Class -> status, as committed."""
    rows = [line.split(" | ") for line in PATH.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return {row[0].removeprefix("| "): row[2] for row in rows if len(row) == 4 and row[0] != "| class"}


def version() -> str:
    """Of the transformers that the committed table is about."""
    return PATH.read_text(encoding="utf-8").split("in transformers ", maxsplit=1)[1].split(",", maxsplit=1)[0]
