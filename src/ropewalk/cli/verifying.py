"""The command that recomputes a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ropewalk.cli.options import ANSWER, app, err, example, say_missing
from ropewalk.errors import visible


@app.command(rich_help_panel=ANSWER, epilog=example("verify runs/demo --cells 2"))
def verify(
    directory: Path,
    cells: Annotated[
        int, typer.Option(min=0, help="Passes and trials to run again; opens the model and documents that it names.")
    ] = 0,
) -> None:
    """Recompute every reported number from raw outcomes, and with --cells some raw outcomes from the model."""
    wrong = False
    from ropewalk.experiment import suite

    for name, run in (suite.members(directory) or {"": directory}).items():
        if name:
            print(f"{name}:")
        bad = _verified(run, cells)
        wrong = wrong or bad
    if wrong:
        raise typer.Exit(1)
    if not cells:
        err.print("No pass was run again: --cells K does, with the model and documents that the run names.")


def _verified(directory: Path, cells: int) -> bool:
    """Say how a run holds; whether it does not, or lacks cells."""
    from ropewalk.execution.rerun import verify_passes
    from ropewalk.experiment.missing import Missing
    from ropewalk.experiment.verify import verify_rows

    said = list[Missing]()
    checked, wrong = verify_rows(directory, said.append)
    for missing in said:
        say_missing(missing)
    of, again, notes = "".join(f" of {missing.asked}" for missing in said), 0, list[str]()
    if cells and not wrong:
        again, wrong = verify_passes(directory, cells, say=notes.append)
    for mismatch in wrong[:20]:
        err.print(visible(str(mismatch)), markup=False)
    print(
        f"{checked}{of} cells recomputed from raw outcomes, {again} passes and trials run again: "
        f"{len(wrong) or 'no'} mismatch{'es' if len(wrong) != 1 else ''}",
        *notes,
        sep="\n",
    )
    return bool(wrong) or not said or any(missing.cells for missing in said)
