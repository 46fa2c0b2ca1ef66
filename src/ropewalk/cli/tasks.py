"""Commands that look at files of tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from ropewalk.cli.options import LOOK, app, example

tasks = typer.Typer(no_args_is_help=True, help="Look at files of tasks.")
app.add_typer(tasks, name="tasks", rich_help_panel=LOOK)


@tasks.callback()
def group() -> None:
    """Look at files of tasks, before any model is loaded."""


@tasks.command(epilog=example("tasks check RULER --model strand"))
def check(
    directory: Annotated[str, typer.Argument(help="The folder that RULER's prepare.py wrote to.")],
    model: Annotated[str, typer.Option(help="Whose tokenizer the files have to be of.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Look at so many samples of each file.")] = None,
) -> None:
    """Say what is wrong with RULER's files under a model's tokenizer; exit 1 where anything is."""
    from ropewalk.experiment.prepare import encoder
    from ropewalk.model_spec import ModelSpec
    from ropewalk.models import read_tokenizer  # imports torch
    from ropewalk.tasks import ruler_files
    from ropewalk.terminal import say

    wrong = ruler_files.check(directory, encoder(read_tokenizer(ModelSpec.parse(model))), limit)
    found = ruler_files.files(directory)
    say(*wrong, f"{len(found) - len(wrong)} of {len(found)} files fit the tokenizer of {model} and their lengths")
    if wrong:
        raise typer.Exit(1)
