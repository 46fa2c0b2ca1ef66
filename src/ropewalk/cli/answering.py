"""Commands that read what a run says."""

from __future__ import annotations

import contextlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ropewalk.cli.arguments import parse_length
from ropewalk.cli.options import (
    ANSWER,
    TARGET_LENGTH,
    JsonFlag,
    PartialFlag,
    app,
    err,
    example,
    print_json,
    print_table,
    print_tables,
    say_missing,
)


class Format(StrEnum):
    """How `results` prints."""

    table = "table"
    md = "md"
    latex = "latex"
    csv = "csv"
    json = "json"


@app.command(rich_help_panel=ANSWER, epilog=example("results runs/demo --metric tail --sort tail --no-ci"))
def results(
    directory: Path,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; repeats.")] = None,
    length: Annotated[
        list[int] | None, typer.Option(parser=parse_length, metavar="TOKENS", help="Only this length; repeats.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this method; repeats.")] = None,
    sort: Annotated[str | None, typer.Option(metavar="METRIC", help="Best first by a metric, within lengths.")] = None,
    no_ci: Annotated[bool, typer.Option("--no-ci", help="Values without their intervals.")] = False,
    format: Annotated[Format, typer.Option(help="csv and json hold every column of every row.")] = Format.table,
    as_json: JsonFlag = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="What is missing stands above the table, and so in a file made of it.")
    ] = False,
) -> None:
    """Print one row per (method, params, length, metric)."""
    from ropewalk.experiment import tabular
    from ropewalk.experiment.results import ROW_KEYS, Run
    from ropewalk.terminal import csv_text, say

    found = Run.read(directory)
    scripts = as_json or csv or format in (Format.json, Format.csv)
    if partial and found.missing.cells and not scripts and format is not Format.latex:
        say(f"From part of a run: {found.missing}\n")
    else:
        say_missing(found.missing)
    rows = found.labelled_rows() if scripts else found.shown_rows()
    rows = tabular.chosen(rows, metrics=metric or (), lengths=length or (), methods=method or ())
    rows = tabular.ordered(rows, sort) if sort else rows
    plain = [{key: row[key] for key in ROW_KEYS} for row in rows]
    if as_json or format is Format.json:
        return print_json(plain)
    if csv or format is Format.csv:
        print(csv_text(plain), end="")
    elif format is Format.md:
        say(tabular.markdown(tabular.wide(rows, ci=not no_ci)).rstrip("\n"))
    elif format is Format.latex:
        say(tabular.latex(tabular.wide(rows, ci=not no_ci)).rstrip("\n"))
    else:
        print_tables(rows, ci=not no_ci)
    return None


@app.command(rich_help_panel=ANSWER, epilog=example("report runs/demo"))
def report(directory: Path, partial: PartialFlag = False) -> None:
    """Write report.html, report.md and figures/*.png into a run directory; prints their paths."""
    from ropewalk.experiment import suite
    from ropewalk.experiment.run_data import RunData
    from ropewalk.export import names
    from ropewalk.report.write import report_of
    from ropewalk.terminal import say

    if suite.exists(directory):
        from ropewalk.cli.suites import report_suite

        return report_suite(directory, partial)
    data = RunData.read(directory)
    say_missing(data.missing)
    say(*report_of(data, partial=partial, targets=names()))
    return None


@app.command(rich_help_panel=ANSWER, epilog=example("index runs"))
def index(directory: Path) -> None:
    """Write index.html over all runs in and below a directory: one line each, with what it recommends."""
    from ropewalk.report.catalogue import write
    from ropewalk.terminal import say

    say(write(directory))


@app.command(rich_help_panel=ANSWER, epilog=example("view runs/demo"))
def view(
    directory: Path,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """Serve a run's page, or a list of runs, to this machine alone; the page of a run that goes on follows it."""
    from ropewalk.export import names
    from ropewalk.report.viewer import server
    from ropewalk.terminal import say

    with server(directory, port, names()) as serving:
        say(f"http://127.0.0.1:{serving.server_address[1]}/")
        sys.stdout.flush()
        err.print("Ctrl-C ends it.", markup=False)
        with contextlib.suppress(KeyboardInterrupt):
            serving.serve_forever()


@app.command(rich_help_panel=ANSWER, epilog=example("recommend runs/demo --length 1024"))
def recommend(
    directory: Path,
    length: Annotated[int, TARGET_LENGTH],
    max_short_cost: Annotated[
        float | None, typer.Option(metavar="PCT", help="Largest loss of perplexity inside the window, per cent.")
    ] = None,
    by: Annotated[
        str,
        typer.Option(help="perplexity, a metric of how prompts are answered, or both: one among what the other ties."),
    ] = "both",
    min_found: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Smallest share to be found at the length, 0 to 1.")
    ] = None,
    target: Annotated[str, typer.Option(metavar="ENGINE", help="Whose command to end with; see `export`.")] = "hf",
    partial: PartialFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Say which configuration to use at a length, on what evidence, and what is tied with it."""
    from ropewalk.experiment.guards import sound
    from ropewalk.export import find
    from ropewalk.report.deploy import deploy_command
    from ropewalk.report.printing import recommendation_json, recommendation_lines
    from ropewalk.report.recommend import recommend as choose
    from ropewalk.report.settling import settling
    from ropewalk.report.study import read_to_choose
    from ropewalk.terminal import tell

    find(target)
    with sound(directory):
        found, missing = read_to_choose(directory, partial=partial)
        say_missing(missing)
        answer = choose(found, length, max_short_cost, by=by, min_found=min_found)
        command = deploy_command(found, answer.choice.method, answer.choice.asked, answer.judged_at, directory, target)
    if as_json:
        return print_json(recommendation_json(answer, command, missing.cells))
    said = str(missing) if missing.cells else ""
    tell(*recommendation_lines(answer, command, said, settling(found, answer, directory)))
    return None


@app.command(rich_help_panel=ANSWER, epilog=example("compare runs/one runs/other"))
def compare(directory_a: Path, directory_b: Path, as_json: JsonFlag = False) -> None:
    """Compare two runs: what differs in provenance, then every common cell, paired where documents agree."""
    from ropewalk.experiment.guards import sound
    from ropewalk.report.compare import compare as contrast
    from ropewalk.report.printing import compared_json, compared_lines, compared_table
    from ropewalk.report.study import read
    from ropewalk.terminal import tell

    with sound(directory_a):
        first = read(directory_a)
    with sound(directory_b):
        second = read(directory_b)
        for name, one in zip(("A", "B"), (first, second), strict=True):
            say_missing(one.missing, f"{name}: ")
        found = contrast(first, second)
    if as_json:
        return print_json(compared_json(found))
    tell(*compared_lines(found))
    print_table(compared_table(found))
    return None
