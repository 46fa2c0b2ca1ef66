"""One page over many runs: which models, how far, what each recommends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ropewalk import __version__
from ropewalk.errors import RopewalkError, StoreError
from ropewalk.experiment.guards import sound
from ropewalk.experiment.store import Store
from ropewalk.files import write_whole
from ropewalk.report import study, wording
from ropewalk.report.page import environment
from ropewalk.report.provenance import model_name
from ropewalk.report.recommend import recommend

NAME = "index.html"
DEPTH, MOST = 3, 1000
"""Folders below the one that is asked for, and runs in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A run: its place below the folder, model, lengths, and what it recommends or why it cannot."""

    name: str
    model: str
    lengths: str
    documents: int
    cells: str
    says: str
    started: str


def runs(folder: Path) -> list[Path]:
    """The run directories in and below a folder, sorted; links are not followed.

    Raises:
        StoreError: there is none.
    """
    found: list[Path] = []
    for here, folders, _ in os.walk(folder):
        place = Path(here)
        if Store.exists(place):
            found.append(place)
        deep = len(place.relative_to(folder).parts) >= DEPTH
        folders[:] = [] if deep or Store.exists(place) or len(found) >= MOST else sorted(folders)
    if not found:
        raise StoreError(f"{folder}: holds no run, nor do the folders in it; name one that `ropewalk run` wrote into.")
    return sorted(found)


def entry(folder: Path, run: Path) -> Entry:
    """One run; one that cannot be read says so in its line."""
    name = run.relative_to(folder).as_posix()
    try:
        with sound(run):
            found = study.read(run)
    except RopewalkError as error:
        return Entry(name=name, model="", lengths="", documents=0, cells="", says=str(error), started="")
    measured, missing = found.run, found.missing
    lengths = ", ".join(f"{length:,}" for length in measured.lengths)
    try:
        says = str(missing) if missing.cells else wording.headline(recommend(measured, measured.lengths[-1]))
    except (RopewalkError, IndexError) as error:
        says = str(error)
    return Entry(
        name=name,
        model=model_name(measured),
        lengths=lengths,
        documents=measured.documents,
        cells=f"{missing.asked - missing.cells} of {missing.asked}",
        says=says,
        started=str(measured.meta.get("started") or "")[:10],
    )


def catalogue(folder: Path, link: Callable[[str], str | None]) -> str:
    """The page; `link` gives the address of a run's own page, or None."""
    entries: Iterator[Entry] = (entry(folder, run) for run in runs(folder))
    lines = [(each, link(each.name)) for each in entries]
    template = environment("ropewalk.report").get_template("catalogue.html.j2")
    return template.render(title=folder.resolve().name, lines=lines, version=__version__)


def write(folder: Path) -> Path:
    """index.html in the folder, with a link to each run's report where there is one; returns its path.

    Raises:
        StoreError: there is no run, or it cannot be written.
    """
    page = catalogue(folder, lambda name: f"{name}/report.html" if (folder / name / "report.html").is_file() else None)
    try:
        write_whole(folder, NAME, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise StoreError(f"{folder / NAME}: cannot be written ({error.strerror}); mend the permissions.") from None
    return folder / NAME
