"""The whole text and every chart of the golden report, kept as files: whatever else changes is seen.

The numbers in them are checked by hand in golden_tables.py; these files hold the rest. `python
tests/report/test_golden_files.py` writes them again; read what changed before you commit it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from golden import golden

from ropewalk.report.content import content
from ropewalk.report.markdown import markdown
from ropewalk.report.theme import page_config, picture_config
from ropewalk.report.write import drawings

KEPT = Path(__file__).parent / "golden_files"


def made() -> dict[str, str]:
    """Contents by file name."""
    report = content(golden())
    lines: list[str] = []
    for name, spec in drawings(report).items():
        for part in spec.get("concat", [spec]):
            lines += [f"# {name}", *_lines({k: v for k, v in part.items() if k not in ("$schema", "datasets", "data")})]
    for name, config in (("page", page_config(report.styles)), ("picture", picture_config(report.styles))):
        lines += [f"# theme of a {name}", *_lines(config)]
    return {"report.md": markdown(report, ["report.html"]), "charts.txt": "\n".join(lines) + "\n"}


def _lines(values: dict[str, object]) -> list[str]:
    """One line for each key, or for each layer."""
    found: list[str] = []
    for key, value in values.items():
        parts = value if key == "layer" and isinstance(value, list) else [value]
        found += [f"{key} {json.dumps(_rounded(part), ensure_ascii=False, sort_keys=True)}" for part in parts]
    return found


def _rounded(value: object) -> object:
    """Floats at six digits, so that the last ones of another machine's logarithm make no difference."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


@pytest.mark.parametrize("name", ["report.md", "charts.txt"])
def test_nothing_else_changed(name):
    assert made()[name].splitlines() == (KEPT / name).read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    for name, text in made().items():
        (KEPT / name).write_text(text, encoding="utf-8")
