"""Commands that measure."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from ropewalk.cli.arguments import (
    parse_bytes,
    parse_patience,
    parse_percent,
    parse_until,
    read_experiment,
    read_suite,
)
from ropewalk.cli.options import (
    MEASURE,
    JsonFlag,
    LengthsOption,
    ModelOption,
    SetOption,
    app,
    err,
    example,
    print_json,
    print_table,
)
from ropewalk.cli.sweeping import sweep_and_say
from ropewalk.errors import ExperimentError

DEMO_DIRECTORY = Path("ropewalk-demo")


@app.command(rich_help_panel=MEASURE, epilog=example("demo"))
def demo(
    out: Annotated[Path, typer.Option(help="Run directory; one that holds the demo goes on.")] = DEMO_DIRECTORY,
) -> None:
    """Run the built-in sweep on the built-in model, and print what it says."""
    experiment, source = read_experiment("preset:demo")
    from ropewalk.export import names
    from ropewalk.report import study, write
    from ropewalk.report.story import bars, story
    from ropewalk.terminal import tell

    run = sweep_and_say(experiment, source, out, False)
    read = study.of(run.data)
    print_table(bars(read))
    page, *_ = write.report_of(run.data, targets=names())
    tell(*story(read), f"Every number:    {page}")


@app.command(rich_help_panel=MEASURE, epilog=example("plan preset:grid-172 --no-probe"))
def plan(
    file: Annotated[str, typer.Argument(help="Experiment file, preset:NAME, or a run directory.")],
    model: ModelOption = None,
    lengths: LengthsOption = None,
    changes: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="A run directory, to count what is done.")] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Say the longest length that fits, such as into 12GB.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="With --out: documents and windows that it takes.")
    ] = None,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Leave out the time, which takes the model and about a minute.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print one prompt of each task with its answer, and nothing else.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show cells, duplicates, passes, tokens, memory and, from a short probe, time of an experiment not yet run."""
    given = None if memory is None else parse_bytes(memory, "--memory")
    several, _ = read_suite(file, model, lengths, changes)
    if several is not None:
        from ropewalk.cli.suites import plan_suite

        if show or precision is not None:
            raise ExperimentError(f"{file}: is a suite; --show and --precision take one model, with the key model.")
        return plan_suite(several, out, given, as_json=as_json)
    experiment, _ = read_experiment(file, model, lengths, changes)
    from ropewalk.experiment import estimate  # imports torch, as the others do
    from ropewalk.experiment import memory as needs
    from ropewalk.experiment.overview import lines, overview, time_line
    from ropewalk.experiment.prepare import ask
    from ropewalk.progress import progress
    from ropewalk.terminal import tell

    asked = ask(experiment)
    if show:
        return _show(asked, as_json)
    if precision is not None:
        return _precise(precision, out, as_json)
    memory_needed, expected = needs.of(asked, given), None
    if not as_json:
        tell(*lines(overview(asked, out, None, memory_needed)))
    if not no_probe and estimate.can_probe(asked):
        err.print(f"probing for at most {estimate.LIMIT_S:.0f} s once the model is loaded; --no-probe leaves it out.")
        with progress(err, "probes") as report:
            expected = estimate.of(asked, report)
    if as_json:
        return print_json(overview(asked, out, expected, memory_needed))
    tell(time_line(expected, probed=not no_probe))
    return None


def _precise(text: str, out: Path | None, as_json: bool) -> None:
    from ropewalk.report.settling import precise
    from ropewalk.report.study import read_to_choose
    from ropewalk.terminal import tell

    percent = parse_percent(text, "--precision")
    if out is None or not out.is_dir():
        raise ExperimentError(
            f"--precision {text}: how documents scatter is known once some are measured; run four documents of two "
            "windows first (--set documents.count=4 --set documents.windows=2) and name that directory with --out."
        )
    found = precise(read_to_choose(out, partial=True)[0], percent)
    if as_json:
        return print_json(found)
    tell(*found["said"])
    return None


def _show(asked: Any, as_json: bool) -> None:
    from dataclasses import asdict

    from ropewalk.experiment.showing import lines, shown
    from ropewalk.terminal import say

    found = shown(asked)
    if as_json:
        return print_json([asdict(each) for each in found])
    say(*lines(found))
    return None


@app.command(rich_help_panel=MEASURE, epilog=example("run preset:demo --out runs/demo"))
def run(
    file: Annotated[str, typer.Argument(help="Experiment file, preset:NAME, or a run directory.")],
    out: Annotated[Path, typer.Option(help="Run directory; new, or of the same experiment to resume.")],
    model: ModelOption = None,
    lengths: LengthsOption = None,
    changes: SetOption = None,
    exact: Annotated[bool, typer.Option(help="Float32, eager attention, one row at a time.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per visible GPU, one on a CPU.")
    ] = None,
    gpus_per_model: Annotated[int, typer.Option(min=1, help="GPUs of each worker, with device_map: auto.")] = 1,
    ray: Annotated[str | None, typer.Option(help="A Ray cluster: auto, local, or its address.")] = None,
    executor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who measures: local, processes, ray, or a package's.")
    ] = None,
    patience: Annotated[
        str | None, typer.Option(metavar="TIME", help="Silence after which a worker is ended, at the least; 10m.")
    ] = None,
    shard: Annotated[str | None, typer.Option(metavar="K/N", help="Only the K-th of N parts; see merge.")] = None,
    until: Annotated[
        str | None, typer.Option(metavar="decided", help="Stop when the best is known; losers leave on the way.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="With --until: also stop when all intervals reach no further.")
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="With --until: begin no round beyond it.")] = None,
    reuse: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take what another run of this model has measured already.")
    ] = None,
    log: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show it elsewhere too: trackio, wandb, mlflow, or a package's.")
    ] = None,
) -> None:
    """Run an experiment, or resume it."""
    stopping = parse_until(until, precision, budget)
    several, source = read_suite(file, model, lengths, changes)
    experiment: Any = several or read_experiment(file, model, lengths, changes)[0]
    from ropewalk.execution.loggers import logger
    from ropewalk.execution.pace import Stopping
    from ropewalk.execution.shard import Shard
    from ropewalk.execution.table import choose

    chosen = choose(workers=workers, gpus_per_model=gpus_per_model, ray=ray, name=executor, **parse_patience(patience))
    chosen["shard"] = None if shard is None else Shard.parse(shard)
    chosen["until"] = None if stopping is None else Stopping(**stopping)
    chosen["log"] = None if log is None else logger(log)
    if several is not None:
        from ropewalk.cli.suites import run_suite

        if reuse is not None:
            raise ExperimentError(
                f"--reuse {reuse}: takes passes of one model's run, and {file} is a suite; leave it out."
            )
        return run_suite(several, source, out, exact, chosen)
    chosen["reuse"] = reuse
    sweep_and_say(experiment, source, out, exact, **chosen)
    if shard is None:
        _say_next(out, experiment.lengths[-1])
    return None


@app.command(rich_help_panel=MEASURE, epilog=example("resume runs/demo"))
def resume(directory: Path) -> None:
    """Go on with a run that was interrupted, or that lacks cells; needs nothing but its directory."""
    from ropewalk.execution.run import begun, is_finished
    from ropewalk.execution.table import choose
    from ropewalk.experiment import suite

    chosen = choose(workers=None, gpus_per_model=1, ray=None)
    if suite.exists(directory):
        from ropewalk.cli.suites import resume_suite

        return resume_suite(directory, chosen)
    experiment, exact, shard, until = begun(directory)
    if until is None and is_finished(directory):
        err.print(f"{directory}: every cell is measured, nothing is left to do", markup=False)
    else:
        sweep_and_say(experiment, "", directory, exact, shard=shard, until=until, **chosen)
    if shard is None:
        _say_next(directory, experiment.lengths[-1])
    return None


def _say_next(out: Path, longest: int) -> None:
    """What to do with a finished run."""
    for command, what in (
        (["report", str(out)], "the page, with every number"),
        (["recommend", str(out), "--length", str(longest)], "which one, and why"),
    ):
        err.print(f"next: {shlex.join(['ropewalk', *command])}  # {what}", markup=False)
