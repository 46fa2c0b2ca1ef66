"""The app, and what several commands share: options, streams, groups of the help."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup
from typing_extensions import override

from ropewalk import __version__
from ropewalk.cli.arguments import parse_length
from ropewalk.errors import RopewalkError

if TYPE_CHECKING:
    from ropewalk.experiment.missing import Missing
    from ropewalk.report.tables import Table

LOOK, MEASURE, ANSWER, SERVE = "Look", "Measure", "Read what a run says", "Tune and serve"
"""Groups of commands in the help."""
err = Console(stderr=True, highlight=False, soft_wrap=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Replaces `model` of the file.")]
LengthsOption = Annotated[
    list[str] | None, typer.Option("--lengths", help="Replaces `lengths`; comma-separated or repeated.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Replaces a key of the file; YAML value; repeats."),
]
TARGET_LENGTH = typer.Option(parser=parse_length, metavar="TOKENS", help="Target length, such as 4096 or 4k.")
ParamList = Annotated[
    list[str] | None, typer.Option("-p", metavar="KEY=VALUE", help="A parameter; YAML value; repeats.")
]
PartialFlag = Annotated[
    bool, typer.Option("--partial", help="Choose though cells are missing; the choice may change with them.")
]


class Verbs(TyperGroup):
    """All commands, under the global options."""

    @override
    def invoke(self, ctx: Any) -> Any:
        """Run a command; `-q` keeps stderr for errors, `--debug` adds the traceback of an error that has a sentence."""
        err.quiet = bool(ctx.params["quiet"])
        try:
            return super().invoke(ctx)
        except RopewalkError as error:
            err.quiet = False
            if ctx.params["debug"]:
                err.print(_traceback(error), markup=False, end="")
            raise
        finally:
            err.quiet = False


def _traceback(error: BaseException) -> str:
    """The traceback of an error and of all that led to it, `from None` or not."""
    link: BaseException | None = error
    while link is not None:
        link.__suppress_context__ = False
        link = link.__cause__ or link.__context__
    return "".join(traceback.format_exception(error))


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure which RoPE context-extension method works on your model, at which length.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"ropewalk {__version__}")
        raise typer.Exit()


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="No progress and no notes on stderr, only errors.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")] = False,
) -> None:
    """Measure which RoPE context-extension method works on your model, at which length."""


def example(arguments: str) -> str:
    """The last line of a command's help."""
    return f"Example: ropewalk {arguments}"


def say_missing(missing: Missing, before: str = "") -> None:
    """What a run lacks, on stderr, before anything else is said of it."""
    if missing.cells:
        err.print(f"{before}{missing}", markup=False)


def stdout() -> Console:
    """Where tables go: as wide as the terminal, and wide where nobody watches."""
    return Console(width=None if sys.stdout.isatty() else 160)


def print_tables(rows: Any, *, ci: bool = True) -> None:
    """Results on stdout, in as many tables as its width asks for."""
    from ropewalk.terminal import results_tables

    out = stdout()
    for index, table in enumerate(results_tables(rows, out.width, ci=ci)):
        out.print(*[""] * (index > 0), table, sep="\n" if index else " ")


def print_table(shown: Table) -> None:
    """A table of a report on stdout, as wide as that is."""
    from ropewalk.terminal import drawn

    stdout().print(drawn(shown))


def print_json(value: Any) -> None:
    from ropewalk.terminal import json_text

    print(json_text(value))
