"""The command that tunes a scheme."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ropewalk.cli.arguments import read_experiment, seconds
from ropewalk.cli.options import SERVE, TARGET_LENGTH, app, err, example
from ropewalk.errors import ExperimentError

if TYPE_CHECKING:
    from ropewalk.execution.executor import Fleet
    from ropewalk.experiment.schema import Experiment
    from ropewalk.tuning.asked import Request
    from ropewalk.tuning.run import Found


@app.command(rich_help_panel=SERVE, epilog=example("tune preset:demo --length 1024 --out runs/tuned"))
def tune(
    file: Annotated[str, typer.Argument(help="Experiment file, or preset:NAME.")],
    length: Annotated[int, TARGET_LENGTH],
    out: Annotated[Path | None, typer.Option(help="Directory; new, or of the same tuning to resume.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of each seed's descent, such as 90s; default 2m.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of each seed's descent instead.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first repeat.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Seeds to tune with.")] = 1,
    what: Annotated[
        str | None,
        typer.Option(help="rotation, rotation+head, rotation+pair or rotation+head+pair; default the most that fits."),
    ] = None,
    near: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            metavar="TOKENS",
            help="Nearer ones stay as trained, far ones are tuned alone; given again, the best on the tuning set wins.",
        ),
    ] = None,
    max_short_cost: Annotated[
        float | None, typer.Option(metavar="PCT", help="Largest loss of perplexity inside the window, per cent.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share the seeds; default: one per visible GPU, one on a CPU."),
    ] = None,
    gpus_per_model: Annotated[int, typer.Option(min=1, help="GPUs of each worker, with device_map: auto.")] = 1,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what it needs and how long it takes, and tune nothing.")
    ] = False,
) -> None:
    """Find a rotation and gains of the query by gradient descent, and judge them on text that they never saw."""
    if steps is not None and budget is not None:
        raise ExperimentError(f"--steps {steps} and --budget {budget}: give one of them.")
    experiment, _ = read_experiment(file)
    from ropewalk.execution.executor import Fleet
    from ropewalk.progress import progress
    from ropewalk.terminal import tell
    from ropewalk.tuning.asked import Request  # imports torch, as the others do
    from ropewalk.tuning.lines import lines
    from ropewalk.tuning.run import tune as find
    from ropewalk.tuning.side_by_side import resolved

    request = Request(
        length=length,
        steps=steps,
        budget_s=None if budget is None else seconds(budget),
        seed=seed,
        repeats=repeats,
        what=what,
        near=tuple(near or ()),
        max_short_cost=max_short_cost,
    )
    fleet = resolved(Fleet(workers=workers, gpus_per_model=gpus_per_model), request)
    if plan:
        return _plan(experiment, request, fleet)
    if out is None:
        raise ExperimentError("--out: is missing; name a directory, or --plan to see what it would take.")
    with progress(err, "steps") as report:
        found = find(experiment, request, out, progress=report, fleet=fleet)
    tell(*lines(found.result), found.file)
    err.print(f"next: {_export(experiment, found, length)}  # a checkpoint that holds it", markup=False)
    return None


def _export(experiment: Experiment, found: Found, length: int) -> str:
    """The command that serves what was found."""
    asked = experiment.model if isinstance(experiment.model, str) else experiment.model["id"]
    command = ["ropewalk", "export", "tuned", "--model", asked, "-p", f"file={found.file}", "--length", str(length)]
    code = ["--with-code"] if found.scheme.branches else []
    return shlex.join([*command, "--target", "hf", "--out", "MODEL", *code, "--check"])


@app.command(hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def search() -> None:
    """The rotations that this searched for are tuned."""
    raise ExperimentError("search: gave way to tuning; use ropewalk tune FILE --length N --out DIR --what rotation.")


def _plan(experiment: Experiment, request: Request, fleet: Fleet) -> None:
    from ropewalk.progress import progress
    from ropewalk.terminal import tell
    from ropewalk.tuning.plan import lines, plan

    with progress(err, "probes") as report:
        found = plan(experiment, request, report=report, workers=fleet.workers or 1)
    tell(*lines(found, request))
