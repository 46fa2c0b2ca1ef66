"""Report files: the only effects of the report. Each file is whole or not there."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vl_convert

from ropewalk.errors import StoreError, visible
from ropewalk.experiment.guards import sound
from ropewalk.experiment.run_data import RunData
from ropewalk.files import remove, write_whole
from ropewalk.report import by_group, study
from ropewalk.report.content import Content, content
from ropewalk.report.deploy import CHECKPOINT
from ropewalk.report.markdown import markdown
from ropewalk.report.marks import Spec, inline
from ropewalk.report.page import page
from ropewalk.report.provenance import model_name
from ropewalk.report.raster import flat
from ropewalk.report.theme import picture_config

FIGURES = "figures"
WIDTH = 760
KINDS = ("png", "svg", "pdf")
DPI = 200
ADDRESSES = 2**37
"""Bytes that the chart library's engine reserves, rounded up; it ends the process where it does not get them."""
GROUPS = tuple(f"{by_group.ANCHOR}-{place}" for place in range(by_group.MOST))
MEASURED = ("ratio", "tail", "position", "retrieval", *GROUPS, "pareto", "sensitivity")
OURS = (*MEASURED, "wavelengths", "distances", "maps", "gains")
"""Pictures that a report may hold; one that this report lacks is removed."""


def report(directory: Path, *, partial: bool = False, targets: Sequence[str] = (CHECKPOINT,)) -> list[Path]:
    """Write report.html, report.md and figures/*.png into a run directory; gives the files, the page first.

    `partial` lets them choose from what there is where cells are missing; `targets` are engines to deploy to.

    Raises:
        StoreError: there is no run in it, or it cannot be written.
    """
    return report_of(RunData.read(directory), partial=partial, targets=targets)


def report_of(data: RunData, *, partial: bool = False, targets: Sequence[str] = (CHECKPOINT,)) -> list[Path]:
    """`report` of a run that was read."""
    require_drawing()
    with sound(data.directory):
        made = content(study.of(data), partial=partial, targets=targets)
    return save(made, data.directory)


def save(made: Content, directory: Path) -> list[Path]:
    """Write a report's files; a file that is there is replaced whole.

    Raises:
        StoreError: they cannot be written.
    """
    drawn = {name: svg(spec, picture_config(made.styles)) for name, spec in drawings(made).items()}
    pictures = {
        f"{FIGURES}/{name}.{kind}": draw(picture)
        for name, picture in drawn.items()
        for kind, draw in (("png", png), ("svg", str.encode), ("pdf", vl_convert.svg_to_pdf))
    }
    names = ["report.html", "report.md", *(name for name in pictures if name.endswith(".png"))]
    texts = {"report.html": page(made), "report.md": markdown(made, names)}
    files = {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()} | pictures
    try:
        directory.mkdir(exist_ok=True, parents=True)
        for name, data in files.items():
            write_whole(directory, name, data)
        for name in (f"{FIGURES}/{name}.{kind}" for name in OURS for kind in KINDS):
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
        large = [f for f in section.figures if f.spec is not None and not f.small]
        found |= {f.name: titled(f.spec or {}, f.title, made) | {"width": WIDTH} for f in large}
        if small:
            parts = [inline(f.spec) | {"title": f.title, "width": 200} for f in small if f.spec is not None]
            found[section.anchor] = titled({"concat": parts, "columns": 3}, section.title, made)
    return found


def titled(spec: Spec, title: str, made: Content) -> Spec:
    """A chart that stands alone: what it shows, of which model, from how many texts, with parameters in its legend."""
    run = made.study.run
    documents = run.documents
    said = f"{model_name(run)}; n = {documents} document{'s' * (documents != 1)}, seed {run.experiment.get('seed', 0)}"
    named = json.dumps(dict(made.leading))
    return _legends(spec, f"{named}[datum.label] || datum.label") | {"title": {"text": title, "subtitle": said}}


def _legends(value: Any, expression: str) -> Any:
    """The same with words for the entries of every legend."""
    if isinstance(value, list):
        return [_legends(item, expression) for item in value]
    if not isinstance(value, dict):
        return value
    found = {k: v if k == "datasets" else _legends(v, expression) for k, v in value.items()}
    return found | {"legend": found["legend"] | {"labelExpr": expression}} if found.get("legend") else found


def svg(spec: Spec, config: Any) -> str:
    """A chart drawn with its legend; control codes in its texts, which the library refuses to draw, as escapes."""
    return vl_convert.vegalite_to_svg(_visible(spec), config=_visible(config))


def png(drawn: str) -> bytes:
    """The pixels of an SVG, at 200 dots per inch."""
    return vl_convert.svg_to_png(flat(drawn), ppi=DPI)


def require_drawing() -> None:
    """Raises StoreError where the address space is too small to draw in."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < ADDRESSES:
        raise StoreError(
            f"charts: the library that draws them reserves {ADDRESSES // 1024} kB of addresses (not of memory), and "
            f"ulimit -v grants {limit // 1024}; lift that limit for this command."
        )


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_visible(key): _visible(each) for key, each in value.items()}
    return [_visible(each) for each in value] if isinstance(value, (list, tuple)) else value
