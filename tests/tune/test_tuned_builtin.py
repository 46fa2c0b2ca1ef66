"""The scheme that comes with the package: named without a path, carried whole, of the built-in model as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from ropewalk.experiment import presets, schema
from ropewalk.files import file_sha256
from ropewalk.methods import inlined, make_params
from ropewalk.methods.tuned_file import BUILTIN_FILE, read
from ropewalk.models.builtin import locate


def test_the_demo_carries_the_scheme_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "builtin").write_text("no scheme")
    asked = schema.parse(schema.load_yaml(presets.text("demo"), "preset:demo"), "preset:demo")
    held = asked.resolved()["methods"]["tuned"]["file"]
    assert held == read(BUILTIN_FILE).plain()
    assert make_params("tuned", {"file": held}) == make_params("tuned", inlined("tuned", {"file": "builtin"}))


def test_it_was_tuned_on_the_weights_that_are_shipped() -> None:
    directory, _ = locate("strand", weights=True)
    with safe_open(BUILTIN_FILE, "numpy") as file:
        note = file.metadata()["ropewalk"]
    assert f'"weights_sha256": "{file_sha256(directory / "model.safetensors")}"' in note
    assert (read(BUILTIN_FILE).length, read(BUILTIN_FILE).gains.log.shape) == (1024, (6, 4, 32))
    assert BUILTIN_FILE.stat().st_size < 10_000
