"""Arguments as values: `-p`, `--lengths`, `--memory` and experiment files. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ropewalk.errors import ExperimentError


def parse_parameters(pairs: list[str] | None) -> dict[str, Any]:
    """`key=value` pairs with YAML values."""
    from ropewalk.experiment.schema import load_yaml

    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in found:
            raise ExperimentError(f"-p {pair!r}: must be key=value, each key once; such as -p factor=2.")
        found[key] = load_yaml(value, f"-p {key}")
    return found


def parse_lengths(asked: list[str] | None) -> list[int] | None:
    """`128,256`, or the option repeated, to tokens; None if it was not given."""
    if not asked:
        return None
    parts = [part.strip() for item in asked for part in item.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise ExperimentError(f"--lengths {' '.join(asked)}: must be whole numbers of tokens, such as 2048,4096.")
    return [int(part) for part in parts]


def read_experiment(file: str, model: str | None, lengths: list[str] | None) -> tuple[Any, str]:
    from ropewalk.experiment import presets, schema

    preset = file.startswith("preset:")
    text = presets.text(file.removeprefix("preset:")) if preset else schema.read(Path(file))
    raw = schema.load_yaml(text, file)
    asked = {"model": model, "lengths": parse_lengths(lengths)}
    if isinstance(raw, dict):
        raw |= {key: value for key, value in asked.items() if value is not None}
    return schema.parse(raw, file), text
