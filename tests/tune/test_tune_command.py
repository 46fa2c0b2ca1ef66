"""What the command says at its end is what serves what it found."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ropewalk.cli import app


@pytest.mark.parametrize("more", [[], ["--near", "64"]])
def test_it_ends_with_a_command_that_serves_what_was_found(asked: Any, tmp_path: Path, more: list[str]) -> None:
    file, served = tmp_path / "asked.yaml", tmp_path / "served"
    file.write_text(json.dumps(asked.model_dump(mode="json", exclude_none=True)))
    command = ["tune", str(file), "--length", "256", "--steps", "1", "--out", str(tmp_path / "found"), *more]
    (line,) = (each for each in CliRunner().invoke(app, command).stderr.splitlines() if each.startswith("next: "))
    words = shlex.split(line.removeprefix("next: "), comments=True)
    assert words[:2] == ["ropewalk", "export"]
    ended = CliRunner().invoke(app, [str(served) if word == "MODEL" else word for word in words[1:]])
    assert ended.exit_code == 0, ended.stderr
    assert "--check" in words
    assert list(served.glob("*.safetensors"))
