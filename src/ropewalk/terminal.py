"""What the command line looks like: errors, progress, tables."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ropewalk.errors import RopewalkError, short, visible
from ropewalk.validation import wanted

if TYPE_CHECKING:
    from ropewalk.experiment import tabular
    from ropewalk.report import tables

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as shells have it."""


def run_app(app: typer.Typer, err: Console) -> int:
    """Run the command line; the user's mistakes are one sentence and exit code 2, an interrupt is 130."""
    try:
        code = app(standalone_mode=False, prog_name="ropewalk") or 0
        if code == INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        return code
    except RopewalkError as error:
        err.print(f"ropewalk: {error}", markup=False, soft_wrap=True)
        return 2
    except typer.Exit as done:
        return done.exit_code
    except (typer.Abort, KeyboardInterrupt):
        err.print("ropewalk: interrupted; finished work is kept, the same command goes on from there.", markup=False)
        return INTERRUPTED
    except Exception as error:  # typer's usage errors share no public class
        if not hasattr(error, "format_message"):
            raise
        if error.format_message():  # empty where help was printed instead
            err.print(f"ropewalk: {_usage(error)}", markup=False, soft_wrap=True)
        return 2


def _usage(error: Any) -> str:
    """What typer says of an argument, with the value and the way out where it leaves them out."""
    said = str(error.format_message()).replace("Value error, ", "")
    if bounds := [each for each in getattr(error.__cause__, "errors", list)() if each["type"] != "value_error"]:
        said = f"{said.partition(': ')[0]}: {short(bounds[0]['input'])} {wanted(bounds[0])}."
    verb = error.ctx.command_path if getattr(error, "ctx", None) else "ropewalk COMMAND"
    for beginning, remedy in (("Missing ", "add it"), ("Got unexpected ", "leave it out")):
        if said.startswith(beginning):
            return f"{said.rstrip('.')}; {remedy}, `{verb} --help` shows how."
    if " is not one of " in said:
        return f"{said.replace(' is not one of ', ' must be one of ').rstrip('.')}; write one of these."
    return re.sub(r" \(Possible options: (.*)\)", r"; did you mean \1?", said)


def say(*lines: object) -> None:
    """Print lines on stdout; what a terminal would act on in them as escapes, as names may come from anybody."""
    for line in lines:
        print(visible(str(line), kept="\n"))


def tell(*lines: object) -> None:
    """Say sentences: in a terminal, what is longer than its width and ends with a full stop breaks between words, and
    what is to be copied whole (commands, rows of tables) does not."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    say(*(_broken(str(line), width) if width else line for line in lines))


def _broken(line: str, width: int) -> str:
    if len(line) <= width or not line.endswith(".") or "`" in line:
        return line
    margin = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(line, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)


def json_text(value: Any) -> str:
    """JSON in which everything that a terminal would act on is an escape."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def results_tables(rows: Sequence[Mapping[str, Any]], width: int, *, ci: bool = True) -> list[Table]:
    """One line per configuration and length, metrics side by side, in as many tables as it takes for each to fit into
    a width."""
    from ropewalk.experiment import tabular  # which needs what a listing of methods does not wait for

    return [_table(grid) for grid in tabular.blocks(tabular.wide(rows, ci=ci), width)]


def _table(grid: tabular.Grid) -> Table:
    table = Table(*map(_shown, grid.columns), box=None, pad_edge=False)
    for row in grid.rows:
        table.add_row(*map(_shown, row))
    return table


def drawn(shown: tables.Table) -> Table:
    """A table of a report; the name of a configuration is never cut."""
    columns = (
        Column(name, justify="right" if name in shown.numeric else "left", no_wrap=name == "configuration")
        for name in shown.columns
    )
    table = Table(*columns, box=None, pad_edge=False)
    for row in shown.rows:
        table.add_row(*map(_shown, row))
    return table


def _shown(text: object) -> str:
    return escape(visible(str(text)))


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
    for row in rows:
        writer.writerow([_safe(value) for value in row.values()])
    return out.getvalue()


def _safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        value = json.dumps(value)
    if not isinstance(value, str):
        return value
    return ("'" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else "") + visible(value)
