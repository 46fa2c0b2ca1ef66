"""Commands for runs that several processes or machines share."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ropewalk.cli.options import MEASURE, JsonFlag, app, err, example, print_json, say_missing
from ropewalk.errors import visible


@app.command(rich_help_panel=MEASURE, epilog=example("merge runs/part-1 runs/part-2 --out runs/whole"))
def merge(
    directories: Annotated[list[Path], typer.Argument(help="The directory of every shard.")],
    out: Annotated[Path, typer.Option(help="Run directory; new.")],
) -> None:
    """Put the shards of a run together."""
    from ropewalk.execution.merge import merge as together
    from ropewalk.experiment import suite

    if any(suite.exists(each) for each in directories):
        from ropewalk.cli.suites import merge_suite

        return merge_suite(directories, out)
    found = together(directories, out)
    say_missing(found.missing)
    err.print(f"{len(found.rows())} cells in {out}", markup=False)
    if (decided := found.meta.get("decided")) is not None:
        from ropewalk.stats.findings.stopping import said_of

        err.print(visible(said_of(decided)), markup=False)
        if decided["why"] is None:
            again = f"--reuse {shlex.quote(str(out))}"
            err.print(f"next: the command of every shard again, with {again}; then merge", markup=False)
    return None


@app.command(rich_help_panel=MEASURE, epilog=example("status runs/one"))
def status(directory: Path, as_json: JsonFlag = False) -> None:
    """Say how far a run is, from any terminal, while it goes on."""
    from ropewalk.execution.status import lines
    from ropewalk.execution.status import status as of
    from ropewalk.experiment import suite
    from ropewalk.terminal import tell

    if suite.exists(directory):
        from ropewalk.cli.suites import status_suite

        return status_suite(directory, as_json)
    found = of(directory)
    if as_json:
        print_json(asdict(found))
    else:
        tell(*lines(found))
    return None
