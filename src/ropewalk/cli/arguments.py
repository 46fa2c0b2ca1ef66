"""Arguments as values: `-p`, `--lengths`, `--memory` and experiment files. Nothing here imports torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ropewalk.errors import ExperimentError

UNITS = {"B": 1, "MB": 10**6, "MIB": 2**20, "GB": 10**9, "GIB": 2**30, "TB": 10**12, "TIB": 2**40}


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


def parse_bytes(text: str, place: str) -> int:
    """`12GB`, `12 GiB` or `800MB` as bytes.

    Raises:
        ExperimentError: it is no amount, or has no unit: `12` is nobody's memory.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?I?B?)", text.strip().upper())
    if found is None or found[2] not in UNITS or float(found[1]) * UNITS[found[2]] < 1:
        raise ExperimentError(f"{place} {text!r}: must be an amount of memory, such as 12GB, 16GiB or 800MB.")
    return int(float(found[1]) * UNITS[found[2]])


def parse_until(until: str | None, precision: str | None, budget: str | None) -> dict[str, Any] | None:
    """`--until decided` with its `--precision` in per cent and `--budget` in seconds; None if it was not given.

    Raises:
        ExperimentError: something else, or one of the others without it.
    """
    if until is None:
        for name, value in (("--precision", precision), ("--budget", budget)):
            if value is not None:
                raise ExperimentError(f"{name} {value}: says when `--until decided` stops; add that, or leave it out.")
        return None
    if until != "decided":
        raise ExperimentError(f"--until {until!r}: must be decided; leave it out to measure everything.")
    found = None if precision is None else re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s*%?", precision.strip())
    if precision is not None and (found is None or not 0 < float(found[1]) <= 100):
        raise ExperimentError(f"--precision {precision!r}: must be per cent of a perplexity, such as 1%.")
    budget_s = None
    if budget is not None:
        from ropewalk.searching.asked import seconds  # imports torch, as the others do

        budget_s = seconds(budget)
    return {"precision": None if found is None else float(found[1]), "budget_s": budget_s}


def read_experiment(file: str, model: str | None, lengths: list[str] | None) -> tuple[Any, str]:
    """An experiment file or preset, checked as far as that needs no model, and its text.

    Raises:
        RopewalkError: one sentence with key, value and remedy.
    """
    from ropewalk.experiment import plan, presets, schema
    from ropewalk.model_spec import ModelSpec

    preset = file.startswith("preset:")
    text = presets.text(file.removeprefix("preset:")) if preset else schema.read(Path(file))
    raw = schema.load_yaml(text, file)
    asked = {"model": model, "lengths": parse_lengths(lengths)}
    if isinstance(raw, dict):
        raw |= {key: value for key, value in asked.items() if value is not None}
    experiment = schema.parse(raw, file)
    ModelSpec.parse(experiment.model)
    plan.configurations(experiment.methods)
    return experiment, text
