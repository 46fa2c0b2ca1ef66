"""Report files: the only effects of the report. Each file is whole or not there."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import vl_convert

from ropewalk.errors import StoreError, visible
from ropewalk.experiment.run_data import RunData
from ropewalk.experiment.store import sound
from ropewalk.files import remove, write_whole
from ropewalk.report import study
from ropewalk.report.content import Content, content
from ropewalk.report.markdown import markdown
from ropewalk.report.marks import Spec, inline
from ropewalk.report.page import page
from ropewalk.report.theme import picture_config

FIGURES = "figures"
WIDTH = 760
ADDRESSES = 2**37
"""Bytes that the chart library's engine reserves, rounded up; it ends the process where it does not get them."""
OURS = ("ratio", "tail", "position", "retrieval", "pareto", "sensitivity", "wavelengths")
"""Pictures that a report may hold; one that this report lacks is removed."""


def report(directory: Path, *, partial: bool = False) -> list[Path]:
    """Write report.html, report.md and figures/*.png into a run directory; gives the files, the page first.

    `partial` lets them choose from what there is where cells are missing.

    Raises:
        StoreError: there is no run in it, or it cannot be written.
    """
    return report_of(RunData.read(directory), partial=partial)


def report_of(data: RunData, *, partial: bool = False) -> list[Path]:
    """`report` of a run that was read."""
    require_drawing()
    with sound(data.directory):
        made = content(study.of(data), partial=partial)
    return save(made, data.directory)


def save(made: Content, directory: Path) -> list[Path]:
    """Write a report's files; a file that is there is replaced whole.

    Raises:
        StoreError: they cannot be written.
    """
    pictures = {f"{FIGURES}/{name}.png": png(spec, made) for name, spec in drawings(made).items()}
    names = ["report.html", "report.md", *pictures]
    texts = {"report.html": page(made), "report.md": markdown(made, names)}
    files = {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()} | pictures
    try:
        directory.mkdir(exist_ok=True, parents=True)
        for name, data in files.items():
            write_whole(directory, name, data)
        for name in (f"{FIGURES}/{name}.png" for name in OURS):
            if name not in files:
                remove(directory, name)
    except OSError as error:
        raise StoreError(
            f"{error.filename or directory}: the report cannot be written ({error.strerror or error}); free space or "
            "mend the permissions, then run `ropewalk report` again."
        ) from None
    return [directory / name for name in files]


def drawings(made: Content) -> dict[str, Spec]:
    """Specs by figure name; small ones of a section side by side in one."""
    found: dict[str, Spec] = {}
    for section in made.sections:
        small = [f for f in section.figures if f.small and f.spec is not None]
        found |= {f.name: f.spec | {"width": WIDTH} for f in section.figures if f.spec is not None and not f.small}
        if small:
            parts = [inline(f.spec) | {"title": f.title, "width": 200} for f in small if f.spec is not None]
            found[section.anchor] = {"concat": parts, "columns": 3}
    return found


def png(spec: Spec, made: Content) -> bytes:
    """A picture of a chart, with its legend."""
    return to_png(spec, picture_config(made.styles))


def require_drawing() -> None:
    """Raises StoreError where the address space is too small to draw in."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < ADDRESSES:
        raise StoreError(
            f"charts: the library that draws them reserves {ADDRESSES // 1024} kB of addresses (not of memory), and "
            f"ulimit -v grants {limit // 1024}; lift that limit for this command."
        )


def to_png(spec: Spec, config: Any) -> bytes:
    """A chart drawn; control codes in its texts, which the library refuses to draw, as escapes."""
    return vl_convert.vegalite_to_png(_visible(spec), scale=2, config=_visible(config))


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_visible(key): _visible(each) for key, each in value.items()}
    return [_visible(each) for each in value] if isinstance(value, (list, tuple)) else value
