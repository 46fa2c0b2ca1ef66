"""Commands that read what a run says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ropewalk.cli.options import ANSWER, JsonFlag, PartialFlag, app, example, print_json, say_missing
from ropewalk.errors import visible


@app.command(rich_help_panel=ANSWER, epilog=example("results runs/demo"))
def results(
    directory: Path,
    as_json: JsonFlag = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
) -> None:
    """Print one row per (method, params, length, metric)."""
    from ropewalk.experiment.results import Run
    from ropewalk.terminal import csv_text, results_table

    found = Run(directory=directory)
    say_missing(found.missing)
    if as_json:
        return print_json(found.rows())
    if csv:
        print(csv_text(found.rows()), end="")
        return None
    Console(width=None if sys.stdout.isatty() else 160).print(results_table(found.labelled_rows()))
    return None


@app.command(rich_help_panel=ANSWER, epilog=example("report runs/demo"))
def report(directory: Path, partial: PartialFlag = False) -> None:
    """Write report.html, report.md and figures/*.png into a run directory; prints their paths."""
    from ropewalk.experiment.results import Run
    from ropewalk.report.write import report as write
    from ropewalk.terminal import say

    say_missing(Run(directory=directory).missing)
    say(*write(directory, partial=partial))


@app.command(rich_help_panel=ANSWER, epilog=example("recommend runs/demo --length 1024"))
def recommend(
    directory: Path,
    length: Annotated[int, typer.Option(min=1, help="Target length, tokens.")],
    max_short_cost: Annotated[
        float | None, typer.Option(metavar="PCT", help="Largest loss of perplexity inside the window, per cent.")
    ] = None,
    by: Annotated[
        str,
        typer.Option(help="perplexity, a metric that counts what is found, or both: one among what the other ties."),
    ] = "both",
    min_found: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Smallest share to be found at the length, 0 to 1.")
    ] = None,
    partial: PartialFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Say which configuration to use at a length, on what evidence, and what is tied with it."""
    from ropewalk.experiment.store import sound
    from ropewalk.report.deploy import deploy_command
    from ropewalk.report.printing import recommendation_json, recommendation_lines
    from ropewalk.report.recommend import recommend as choose
    from ropewalk.report.settling import settling
    from ropewalk.report.study import read_to_choose
    from ropewalk.terminal import say

    with sound(directory):
        found, missing = read_to_choose(directory, partial=partial)
        say_missing(missing)
        answer = choose(found, length, max_short_cost, by=by, min_found=min_found)
        command = deploy_command(found, answer.choice.method, answer.choice.params, answer.judged_at, directory)
    if as_json:
        return print_json(recommendation_json(answer, command, missing.cells))
    said = str(missing) if missing.cells else ""
    say(*recommendation_lines(answer, command, said, settling(found, answer)))
    return None


@app.command(rich_help_panel=ANSWER, epilog=example("compare runs/one runs/other"))
def compare(directory_a: Path, directory_b: Path, as_json: JsonFlag = False) -> None:
    """Compare two runs: what differs in provenance, then every common cell, paired where documents agree."""
    from ropewalk.experiment.store import sound
    from ropewalk.report.compare import compare as contrast
    from ropewalk.report.printing import compared_json, compared_lines, compared_table
    from ropewalk.report.study import read
    from ropewalk.terminal import say

    with sound(directory_a):
        first = read(directory_a)
    with sound(directory_b):
        second = read(directory_b)
        for name, one in zip(("A", "B"), (first, second), strict=True):
            say_missing(one.missing, f"{name}: ")
        found = contrast(first, second)
    if as_json:
        return print_json(compared_json(found))
    say(*compared_lines(found))
    shown = compared_table(found)
    columns = (Column(name, justify="right" if name in shown.numeric else "left") for name in shown.columns)
    table = Table(*columns, box=None, pad_edge=False)
    for row in shown.rows:
        table.add_row(*(escape(visible(text)) for text in row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return None
