"""`plan --precision` refuses what says nothing in one sentence, before any model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ropewalk.cli import app


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("1%", "--precision 1%: how documents scatter is known once some are measured; run four documents of two"),
        ("0", "--precision '0': must be per cent of a perplexity and more than 0, such as 1%."),
    ],
)
def test_what_it_cannot_know_is_said(given: str, said: str, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "nothing")]
    found = CliRunner().invoke(app, ["plan", "preset:demo", "--no-probe", "--precision", given, *out])
    assert found.exit_code != 0
    assert said in (str(found.exception) + found.output)
