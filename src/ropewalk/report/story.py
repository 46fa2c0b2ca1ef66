"""What a run shows in three lines: what extending gives, how to serve it, how to begin with another model; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ropewalk.experiment.held import Held
from ropewalk.report.deploy import deploy_command
from ropewalk.report.recommend import LOSSES, Candidate, Recommendation, recommend
from ropewalk.report.study import Study
from ropewalk.report.tables import Table, cell
from ropewalk.report.wording import headline
from ropewalk.stats.column import Column
from ropewalk.stats.findings.finding import listed, percent
from ropewalk.stats.measured import NONE, Row

DROPPING = {
    "better": "and better than dropping the context",
    "worse": "and worse than dropping the context",
    "unknown": "and not shown to be better than dropping the context",
    None: "",
}
BAR = 20
"""Characters of a whole bar."""
OWN = "ropewalk init MODEL > experiment.yaml && ropewalk run experiment.yaml --out runs/mine"


def story(study: Study) -> Iterator[str]:
    """The sentences at the longest length; where nothing is counted there, the recommendation's alone. To be served is
    what `recommend` and the page choose."""
    run, longest = study.run, study.run.lengths[-1]
    chosen = recommend(run, longest)
    if run.retrieval is None or run.row(NONE, run.retrieval.name, longest) is None:
        yield headline(chosen)
    else:
        finds = recommend(run, longest, by=run.retrieval.name)
        loses = recommend(run, longest, by=LOSSES)
        yield f"{_found(study, run.retrieval, finds)} {_lost(study, loses, finds.choice.label)}"
    choice = chosen.choice
    command = deploy_command(run, choice.method, choice.asked, chosen.judged_at, study.directory)
    if command is not None:
        yield f"Serve it:        {command}"
    yield f"Your own model:  {OWN}"


def bars(study: Study) -> Table:
    """The losses at the longest length beside a bar of what is found there; without a bar where nothing is counted."""
    run, longest = study.run, study.run.lengths[-1]
    columns = [column for column in (run.tail, run.retrieval) if column is not None]
    labels = dict.fromkeys(row.label for row in run.rows if row.length == longest)
    found = [(label, [run.row(label, column.name, longest) for column in columns]) for label in labels]
    rows = tuple((label, *map(_text, columns, cells, [_kept(study)] * len(cells))) for label, cells in found)
    return Table(columns=("configuration", *(f"{each.name} at {longest:,}" for each in columns)), rows=rows)


def _text(column: Column, row: Row | None, kept: Held | None) -> str:
    if not column.counts:
        return cell(column, row)
    if row is not None and not math.isnan(row.value):
        return f"{_bar(row.value)} {_of(row.value, row.n)}"
    return f"{_bar(kept.count / kept.n)} holds {kept.count} of {kept.n}" if row is None and kept else cell(column, row)


def _bar(share: float) -> str:
    full = round(share * BAR)
    return "█" * full + "░" * (BAR - full)


def _kept(study: Study) -> Held | None:
    """What dropping the context leaves at the longest length."""
    return next((each for each in study.held if each.length == study.run.lengths[-1]), None)


def _found(study: Study, column: Column, answer: Recommendation) -> str:
    """What the unscaled model finds, and what the one that finds the most."""
    plain = study.run.row(NONE, column.name, answer.judged_at)
    assert plain is not None
    choice, begun = answer.choice, f"Trained on {study.run.window:,} tokens; at {answer.judged_at:,} it finds"
    begun = f"{begun} {_of(plain.value, plain.n)} {column.items}"
    if choice.label == NONE:
        return f"{begun}, and nothing finds more."
    level = [each.label for each in answer.tied if each.value.value == choice.value.value]
    beside = f" (as with {listed(level)})" if level else ""
    return f"{begun}, with {choice.label} {_of(choice.value.value, choice.value.n)}{beside}{_cost(choice)}."


def _cost(choice: Candidate) -> str:
    if choice.cost is None:
        return ""
    return f", for {percent(choice.cost.ratio.value)} {choice.cost.column.title} inside the window"


def _lost(study: Study, answer: Recommendation, said: str) -> str:
    """What is best by losses alone, what it finds unless that was `said` of it, and whether that is better than
    dropping the context."""
    against, choice = DROPPING[answer.dropping], answer.choice
    kept = _kept(study)
    holds = f", which can hold {kept.count} of the {kept.n}" if kept and against else ""
    beside = f" {against}{holds}" if against else ""
    if choice.label == said:
        return f"It is best by next-token loss too{beside}."
    column = study.run.retrieval
    row = None if column is None else study.run.row(choice.label, column.name, answer.judged_at)
    finds = f" ({_of(row.value, row.n)}{_cost(choice)})" if row is not None and not math.isnan(row.value) else ""
    return f"By next-token loss alone {choice.label} is best{finds}{beside}."


def _of(share: float, n: int) -> str:
    return f"{round(share * n)} of {n}"
