"""The command that searches for a rotation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropewalk.cli.arguments import read_experiment
from ropewalk.cli.options import SERVE, TARGET_LENGTH, app, err, example
from ropewalk.errors import ExperimentError


@app.command(rich_help_panel=SERVE, epilog=example("search preset:demo --length 1024 --out runs/search --budget 5m"))
def search(
    file: Annotated[str, typer.Argument(help="Experiment file, perhaps with a section `search`, or preset:NAME.")],
    length: Annotated[int, TARGET_LENGTH],
    out: Annotated[Path, typer.Option(help="Directory; new, or of the same search to resume.")],
    evaluations: Annotated[int | None, typer.Option(min=1, help="Candidates per repeat; default 500.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time to search instead, such as 90s or 5m.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first repeat.")] = 0,
    max_short_cost: Annotated[
        float | None, typer.Option(metavar="PCT", help="Largest loss of perplexity inside the window, per cent.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Seeds to search with.")] = 1,
) -> None:
    """Search for a rotation that beats every named method on this model, and judge it on text it never saw."""
    if evaluations is not None and budget is not None:
        raise ExperimentError(f"--evaluations {evaluations} and --budget {budget}: give one of them.")
    experiment, _ = read_experiment(file, None, None)
    from ropewalk.searching.asked import Request, seconds  # imports torch, as the others do
    from ropewalk.searching.lines import lines
    from ropewalk.searching.run import search as find
    from ropewalk.terminal import progress, say

    asked = Request(
        length=length,
        evaluations=500 if evaluations is None else evaluations,
        budget_s=None if budget is None else seconds(budget),
        seed=seed,
        max_short_cost=max_short_cost,
        repeats=repeats,
    )
    with progress(err, "seconds" if budget else "candidates") as report:
        found = find(experiment, asked, out, progress=report)
    say(*lines(found.result), found.file)
