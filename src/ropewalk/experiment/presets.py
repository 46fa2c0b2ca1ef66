"""Experiment files that come with the package."""

from __future__ import annotations

from importlib.resources import files

from ropewalk.errors import ExperimentError, nearest


def names() -> list[str]:
    """The presets by name."""
    folder = files("ropewalk") / "data" / "presets"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def text(name: str) -> str:
    """A preset as written.

    Raises:
        ExperimentError: there is none of that name; names the nearest.
    """
    if name not in names():
        near = nearest(name, names())
        hint = f"did you mean preset:{near}?" if near else f"there are: {', '.join(names())}."
        raise ExperimentError(f"preset:{name}: there is no such preset; {hint}")
    return (files("ropewalk") / "data" / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
