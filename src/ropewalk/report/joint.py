"""The joint page of a suite: methods by models, which wins where, pooled across models, models pair by pair."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from ropewalk import __version__
from ropewalk.errors import ExperimentError, RopewalkError, StoreError
from ropewalk.experiment import suite
from ropewalk.experiment.guards import sound
from ropewalk.files import write_whole
from ropewalk.report import study
from ropewalk.report.compare import compare
from ropewalk.report.listing import Listing
from ropewalk.report.markdown import plain, render
from ropewalk.report.page import environment
from ropewalk.report.printing import compared_table, outcome
from ropewalk.report.recommend import recommend
from ropewalk.report.study import Study
from ropewalk.report.tables import Table
from ropewalk.report.wording import MISSING, apart, confidence
from ropewalk.stats.blocks import Block
from ropewalk.stats.column import Column
from ropewalk.stats.intervals import Interval
from ropewalk.stats.measured import NONE
from ropewalk.stats.paired import paired_t

PAGE, TEXT = "suite.html", "suite.md"
POOLED = "over models"
LEAD = (
    "Changes are against the model as it is (none), paired on the same documents or prompts of each model; below each "
    "stands its 95 % interval. The last column has the models as units: the mean of their changes (of perplexities, of "
    "their logarithms) with a t interval, which is wide for few models, and says what holds for models like these; "
    "there is none where all change alike."
)


def tables(studies: Mapping[str, Study]) -> list[Listing]:
    """Everything on the page, in order: wins, methods by models per metric and length, pairs of models."""
    return [
        Listing(title="Which method wins where", table=wins(studies), folded=False),
        *_changes(studies),
        *_pairs(studies),
    ]


def wins(studies: Mapping[str, Study]) -> Table:
    """What is recommended for each model at each length, and how sure that is."""
    rows = [
        (name, f"{length:,}", *_recommended(each, length))
        for name, each in studies.items()
        for length in each.run.lengths
    ]
    return Table(columns=("model", "length", "use", "how sure"), rows=tuple(rows), numeric=frozenset({"length"}))


def _recommended(one: Study, length: int) -> tuple[str, str]:
    try:
        answer = recommend(one.run, length)
    except ExperimentError as error:
        return MISSING, str(error)
    return answer.choice.label, confidence(answer)


def _changes(studies: Mapping[str, Study]) -> Iterator[Listing]:
    """A table for each metric and length, the longest length first."""
    known = {column.name: column for each in studies.values() for column in each.run.weightiest}
    for column in known.values():
        lengths = sorted({length for each in studies.values() for length in each.run.lengths}, reverse=True)
        for place, length in enumerate(lengths):
            blocks = {name: each.run.blocks.get((column.name, length)) for name, each in studies.items()}
            if any(blocks.values()):
                title = f"{column.title[:1].upper()}{column.title[1:]} at {length:,} tokens against none"
                yield Listing(title=title, table=by_model(column, blocks), folded=place > 0)


def by_model(column: Column, blocks: Mapping[str, Block | None]) -> Table:
    """Configurations down, models across, and the mean over models where every model has the configuration."""
    labels = dict.fromkeys(label for block in blocks.values() if block for label in block.labels if label != NONE)
    rows = []
    for label in labels:
        found = [_against_none(block, label) for block in blocks.values()]
        shown = (MISSING if each is None else apart(column, each) for each in found)
        rows.append((label, *shown, _over_models(column, found)))
    return Table(columns=("configuration", *blocks, POOLED), rows=tuple(rows), numeric=frozenset({*blocks, POOLED}))


def _against_none(block: Block | None, label: str) -> Interval | None:
    if block is None or not block.units or not {label, NONE} <= set(block.labels):
        return None
    return block.paired(label, NONE).interval


def _over_models(column: Column, found: Iterable[Interval | None]) -> str:
    pooled = over_models(column, [each.value for each in found if each is not None])
    complete = all(each is not None for each in found)
    return apart(column, pooled) if pooled is not None and complete else MISSING


def over_models(column: Column, changes: Iterable[float]) -> Interval | None:
    """The mean change over models with models as units: a ratio by its logarithm, of a share no more than all of it;
    None of fewer than two models."""
    values = [math.log(each) if column.is_ratio and each > 0 else each for each in changes]
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    if len(set(values)) == 1:  # as of methods that find every key or none: models that do not scatter hold no interval
        interval = Interval(value=values[0], low=None, high=None, n=len(values))
    else:
        interval = paired_t(values, np.zeros(len(values))).interval
        if column.counts and interval.low is not None and interval.high is not None:
            interval = replace(interval, low=max(-1.0, interval.low), high=min(1.0, interval.high))
    return interval.exp() if column.is_ratio else interval


def _pairs(studies: Mapping[str, Study]) -> Iterator[Listing]:
    """Every two models, B against A."""
    for (one, a), (other, b) in combinations(studies.items(), 2):
        try:
            found = compare(a, b)
        except ExperimentError as error:
            yield Listing(title=f"{one} (A) and {other} (B): {error}", table=Table(columns=(), rows=()))
            continue
        yield Listing(title=f"{one} (A) and {other} (B): {outcome(found)}", table=compared_table(found))


def read(directory: Path) -> tuple[dict[str, Study], dict[str, str]]:
    """The models that were measured, and why others are not on the page.

    Raises:
        StoreError: no run of the suite can be read.
    """
    found, left = dict[str, Study](), dict(suite.read(directory).absent)
    for name, run in suite.members(directory).items():
        try:
            with sound(run):
                found[name] = study.read(run)
        except RopewalkError as error:
            left[name] = str(error)
        else:
            if (missing := found[name].missing).cells:
                left[name] = str(missing)
    if not found:
        raise StoreError(f"{directory}: no model of this suite is measured yet; `ropewalk resume {directory}` does.")
    return found, left


def write(directory: Path) -> list[Path]:
    """suite.html and suite.md in a suite's directory; returns their paths.

    Raises:
        StoreError: nothing is measured, or they cannot be written.
    """
    studies, left = read(directory)
    made = tables(studies)
    links = {name: f"{name}/report.html" if (directory / name / "report.html").is_file() else None for name in studies}
    template = environment("ropewalk.report").get_template("joint.html.j2")
    title = f"{directory.resolve().name}: {len(studies)} models"
    page = template.render(title=title, lead=LEAD, tables=made, left=left, links=links, version=__version__)
    try:
        write_whole(directory, PAGE, page.encode("utf-8", "backslashreplace"))
        write_whole(directory, TEXT, text(title, made, left).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise StoreError(f"{directory / PAGE}: cannot be written ({error.strerror}); mend the permissions.") from None
    return [directory / PAGE, directory / TEXT]


def text(title: str, made: Iterable[Listing], left: Mapping[str, str]) -> str:
    """The same as Markdown."""
    parts = [f"# {plain(title)}", LEAD, *(f"- {plain(name)}: {plain(reason)}" for name, reason in left.items())]
    for each in made:
        parts += [f"## {plain(each.title)}", *([render(each.table)] if each.table.rows else [])]
    return "\n\n".join(parts) + "\n"
