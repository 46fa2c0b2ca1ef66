"""Commands that say what a server or a file really runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropewalk.cli.arguments import parse_parameters
from ropewalk.cli.options import SERVE, JsonFlag, ParamList, app, err, example, print_json
from ropewalk.errors import visible


@app.command(rich_help_panel=SERVE, epilog=example("diagnose http://localhost:8000 --model strand"))
def diagnose(
    source: Annotated[str, typer.Argument(help="A server's URL; or a hub id, directory, .gguf file or built-in name.")],
    model: Annotated[str | None, typer.Option(help="The checkpoint that is served, or that a .gguf is of.")] = None,
    method: Annotated[str, typer.Option(help="What was asked for; none is what the checkpoint ships.")] = "none",
    p: ParamList = None,
    file: Annotated[Path | None, typer.Option(help="Text to send; default a built-in document.")] = None,
    length: Annotated[int | None, typer.Option(min=2, help="Tokens to send; default 1024.")] = None,
    target: Annotated[str | None, typer.Option(help="The server's kind; default found out.")] = None,
    against: Annotated[str | None, typer.Option(metavar="URL", help="A second server, in place of weights.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say which rotation a server, a directory or a file really runs; exit 1 where it is not the one asked for."""
    from ropewalk.diagnosis import command
    from ropewalk.terminal import tell

    params = parse_parameters(p)
    options = command.Options(
        model=model, method=method, params=params, file=file, length=length, target=target, against=against
    )
    found = command.run(source, options)
    if as_json:
        print_json(found.plain())
    else:
        tell(*found.lines())
    if not found.healthy:
        raise typer.Exit(1)


@app.command(rich_help_panel=SERVE, epilog=example("golden --out golden"))
def golden(
    out: Annotated[Path, typer.Option(help="A new directory: a JSON file per architecture, and index.json.")],
) -> None:
    """Write the rotation of every decoder architecture of the installed transformers, as test data for engines."""
    from ropewalk.diagnosis.golden import write
    from ropewalk.terminal import say

    for name, line in write(out):
        for case, why in line.get("left_out", {}).items():
            err.print(visible(f"{name} {case}: {why}"), markup=False)
    say(out / "index.json")
