"""A run that is told about as it goes: what every command that measures has in common."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ropewalk.cli.options import err, say_missing
from ropewalk.errors import RopewalkError, visible

if TYPE_CHECKING:
    from ropewalk.experiment.results import Run


def sweep_and_say(experiment: Any, source: str, out: Path, exact: bool, **chosen: Any) -> Run:
    """The run, measured as far as it goes; its progress and what became of it are said on stderr.

    Raises:
        typer.Exit: cells failed, which it has said.
    """
    from ropewalk.execution.run import sweep
    from ropewalk.experiment.prepare import ask
    from ropewalk.experiment.results import Run
    from ropewalk.progress import progress
    from ropewalk.stats.findings.stopping import said_of

    asked = ask(experiment)
    try:
        with progress(err) as report:
            found = sweep(asked, out, source=source, exact=exact, progress=report, **chosen)
    except KeyboardInterrupt:
        with contextlib.suppress(RopewalkError):  # nothing was begun
            say_missing(Run.read(out).missing)
        raise
    rows = found.labelled_rows()
    failed = [row for row in rows if row["status"] in ("error", "out_of_memory")]
    err.print(f"{len(rows)} cells in {out}", markup=False)
    if (reuse := chosen.get("reuse")) is not None:
        err.print(_taken(found.meta, reuse), markup=False)
    decided = found.meta.get("decided")
    if decided is not None and (chosen.get("shard") is None or decided["why"] is not None):
        err.print(visible(said_of(decided)), markup=False)
    elif decided is not None:
        err.print(f"shard {chosen['shard']} of a round is measured; next: merge it with the others", markup=False)
    for row in failed[:5]:
        said = f"{row['label']} @ {row['length']} {row['metric']}: {row['status']}: {row['reason']}"
        err.print(visible(said), markup=False)
    if failed:
        raise typer.Exit(1)
    return found


def _taken(meta: Any, reuse: Path) -> str:
    """How much of a run was measured by the other ones that it was told to take from."""
    total, records = {"passes": len(meta["passes"]), "answers": meta["answers"]}, meta.get("reused", ())
    said = (f"{sum(each[name] for each in records):,} of {total[name]:,} {name}" for name in total)
    return f"{' and '.join(said)} were measured before, in {reuse}"
