"""The command that writes a rotation as an engine's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption
from typing_extensions import override

from ropewalk.cli.arguments import parse_length, parse_parameters
from ropewalk.cli.options import SERVE, ParamList, PartialFlag, app, err, example
from ropewalk.errors import visible


class NamesEngines(TyperCommand):
    """A command whose `--target` is explained by the engines that there are, looked up only where help is asked for."""

    @override
    def format_help(self, ctx: Any, formatter: Any) -> None:
        from ropewalk.export import names

        *most, last = names()
        for option in self.params:
            if isinstance(option, TyperOption) and option.name == "target":
                option.help = f"{', '.join(most)} or {last}."
        super().format_help(ctx, formatter)


@app.command(cls=NamesEngines, rich_help_panel=SERVE, epilog=example("export runs/demo --target vllm --length 1024"))
def export(
    source: Annotated[str, typer.Argument(help="A run directory, to export what it recommends; or a method's name.")],
    target: Annotated[str, typer.Option()],
    model: Annotated[
        str | None, typer.Option(help="Hub id, directory, .gguf file or built-in name; for a METHOD.")
    ] = None,
    p: ParamList = None,
    length: Annotated[
        int | None,
        typer.Option(parser=parse_length, metavar="TOKENS", help="Tokens to serve; default factor x window."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="What to write: a model directory, a .gguf, or the line.")] = None,
    gguf: Annotated[Path | None, typer.Option(help="The .gguf to serve; with --out a rewritten copy of it.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Run the exported form and compare its token losses.")] = False,
    endpoint: Annotated[str | None, typer.Option(metavar="URL", help="With --check: your own running server.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what --out names.")] = False,
    partial: PartialFlag = False,
    with_code: Annotated[
        bool, typer.Option("--with-code", help="With --target hf --out: bring code along that its reader must trust.")
    ] = False,
) -> None:
    """Write one rotation as an engine's configuration: on stdout; what that engine does differently: on stderr."""
    from ropewalk.export import command
    from ropewalk.terminal import say

    options = command.Options(
        out=out, gguf=gguf, check=check, endpoint=endpoint, force=force, partial=partial, with_code=with_code
    )
    parameters = parse_parameters(p)
    text, notes = command.run(source, target, model=model, params=parameters, length=length, options=options)
    for note in notes:
        err.print(visible(note), markup=False)
    say(text)
