"""Arguments as values: `-p`, `--set`, `--lengths`, `--memory` and experiment files. Nothing here imports torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ropewalk.errors import ExperimentError
from ropewalk.validation import tokens

UNITS = {"B": 1, "MB": 10**6, "MIB": 2**20, "GB": 10**9, "GIB": 2**30, "TB": 10**12, "TIB": 2**40}


def parse_parameters(pairs: list[str] | None, option: str = "-p", such_as: str = "factor=2") -> dict[str, Any]:
    """Values by key of `key=value` pairs, read as YAML."""
    from ropewalk.experiment.schema import load_yaml

    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in found:
            raise ExperimentError(f"{option} {pair!r}: must be key=value, each key once; such as {option} {such_as}.")
        found[key] = load_yaml(value, f"{option} {key}")
    return found


def replaced(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """An experiment with values at paths of keys, such as `documents.count`; missing mappings are made.

    Raises:
        ExperimentError: a path that leads through something else than a mapping.
    """
    found = dict(raw)
    for path, value in changes.items():
        key, dot, rest = path.partition(".")
        inner = found.get(key)
        if dot and not (inner is None or isinstance(inner, Mapping)):
            raise ExperimentError(f"--set {path}: {key} is {inner!r} and no mapping; set {key} as a whole.")
        found[key] = replaced(inner or {}, {rest: value}) if dot else value
    return found


def parse_length(text: str) -> int:
    """Tokens of an option: `4096`, or `4k`.

    Raises:
        typer.BadParameter: anything else.
    """
    found = tokens(text.strip())
    if isinstance(found, str):
        found = int(found) if found.isdecimal() and found.isascii() and len(found) < 10 else 0
    if not isinstance(found, int) or found < 1:
        raise typer.BadParameter(f"{text!r} must be a whole number of tokens, at least 1, such as 4096 or 4k.")
    return found


def parse_lengths(asked: list[str] | None) -> list[int] | None:
    """`128,256`, or the option repeated, to tokens; None if it was not given."""
    if not asked:
        return None
    try:
        return [parse_length(part) for item in asked for part in item.split(",")]
    except typer.BadParameter:
        raise ExperimentError(
            f"--lengths {' '.join(asked)}: must be whole numbers of tokens, such as 2048,4096 or 2k,4k."
        ) from None


def parse_bytes(text: str, place: str) -> int:
    """`12GB`, `12 GiB` or `800MB` as bytes.

    Raises:
        ExperimentError: it is no amount, or has no unit: `12` is nobody's memory.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?I?B?)", text.strip().upper())
    if found is None or found[2] not in UNITS or float(found[1]) * UNITS[found[2]] < 1:
        raise ExperimentError(f"{place} {text!r}: must be an amount of memory, such as 12GB, 16GiB or 800MB.")
    return int(float(found[1]) * UNITS[found[2]])


SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """`90s`, `5m` or `1h` to seconds.

    Raises:
        ExperimentError: anything else.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in SECONDS or not number.isdecimal() or not 0 < int(number) < 10**6:
        raise ExperimentError(
            f"--budget {text}: must be a whole number with s, m or h and more than 0, such as 90s or 5m."
        )
    return float(int(number) * SECONDS[unit])


def parse_percent(text: str, place: str) -> float:
    """`1%` or `0.5` in per cent.

    Raises:
        ExperimentError: anything else, 0, or more than 100.
    """
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s*%?", text.strip())
    if found is None or not 0 < float(found[1]) <= 100:
        raise ExperimentError(f"{place} {text!r}: must be per cent of a perplexity and more than 0, such as 1%.")
    return float(found[1])


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
    percent = None if precision is None else parse_percent(precision, "--precision")
    budget_s = None
    if budget is not None:
        budget_s = seconds(budget)
    return {"precision": percent, "budget_s": budget_s}


def parse_patience(text: str | None) -> dict[str, float]:
    """`--patience 90s` as `patience_s`; empty if it was not given.

    Raises:
        ExperimentError: no time, or none that a worker needs to say anything.
    """
    if text is None:
        return {}
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*(s|m|h)", text.strip())
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if seconds < 1:
        raise ExperimentError(f"--patience {text!r}: must be a time of at least 1s, such as 90s, 10m or 2h.")
    return {"patience_s": seconds}


def read_experiment(
    file: str, model: str | None = None, lengths: list[str] | None = None, changes: list[str] | None = None
) -> tuple[Any, str]:
    """An experiment file or preset, checked as far as that needs no model, and its text.

    Raises:
        RopewalkError: one sentence with key, value and remedy.
    """
    from ropewalk.experiment import schema

    raw, text = _read_raw(file, model, lengths, changes)
    return _checked(schema.parse(raw, file)), text


def read_suite(
    file: str, model: str | None = None, lengths: list[str] | None = None, changes: list[str] | None = None
) -> tuple[Any, str]:
    """The suite of a file that names several models, None of one that names one, and its text.

    Raises:
        RopewalkError: as `read_experiment`.
    """
    from ropewalk.experiment import suite

    raw, text = _read_raw(file, model, lengths, changes)
    if not suite.is_suite(raw):
        return None, text
    found = suite.parse(raw, file)
    for experiment in found.experiments.values():
        _checked(experiment)
    return found, text


def _recorded(directory: Path) -> str:
    """The experiment of a run as a file of it would be."""
    import yaml

    from ropewalk.execution.run import begun

    return yaml.safe_dump(begun(directory)[0].resolved(), sort_keys=False, allow_unicode=True)


def _checked(experiment: Any) -> Any:
    from ropewalk.experiment import plan
    from ropewalk.model_spec import ModelSpec

    ModelSpec.parse(experiment.model)
    plan.configurations(experiment.methods)
    return experiment


def _read_raw(file: str, model: str | None, lengths: list[str] | None, changes: list[str] | None) -> tuple[Any, str]:
    """What a file holds or a run directory recorded, with what the command line changes in it, and its text."""
    from ropewalk.experiment import presets, schema

    if file.startswith("preset:"):
        text = presets.text(file.removeprefix("preset:"))
    else:
        text = _recorded(Path(file)) if Path(file).is_dir() else schema.read(Path(file))
    raw = schema.load_yaml(text, file)
    asked = {"model": model, "lengths": parse_lengths(lengths)}
    if isinstance(raw, dict):
        raw |= {key: value for key, value in asked.items() if value is not None}
        raw = replaced(raw, parse_parameters(changes, "--set", "documents.count=2"))
    return raw, text
