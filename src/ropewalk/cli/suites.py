"""What the commands do with a suite: the same for the run of every model, and one page over all."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ropewalk.cli.options import err, print_json, say_missing
from ropewalk.cli.sweeping import sweep_and_say
from ropewalk.errors import ExperimentError, ModelError, StoreError, visible

if TYPE_CHECKING:
    from ropewalk.experiment.suite import Suite


def plan_suite(suite: Suite, out: Path | None, memory: int | None, *, as_json: bool) -> None:
    """Cells, passes and memory of every model; a probe of one model at a time says times."""
    from ropewalk.experiment import memory as needs
    from ropewalk.experiment.overview import lines, overview
    from ropewalk.experiment.prepare import ask
    from ropewalk.terminal import tell

    found = {}
    for name, experiment in suite.experiments.items():
        asked = ask(experiment)
        found[name] = overview(asked, None if out is None else out / name, None, needs.of(asked, memory))
    if as_json:
        return print_json(found)
    _say_absent(suite)
    for name, each in found.items():
        tell(f"{name}:", *lines(each))
    return None


def run_suite(suite: Suite, source: str, out: Path, exact: bool, chosen: dict[str, Any]) -> None:
    """Every model's run in turn, all workers at each; what one model lacks leaves the others as they are.

    Every experiment is checked before the first model is loaded.
    """
    from dataclasses import replace

    from ropewalk.experiment import suite as suites
    from ropewalk.experiment.prepare import ask

    if chosen.get("shard") is not None and chosen.get("until") is not None:
        raise ExperimentError(
            f"--shard {chosen['shard']} and --until decided: go round by round, each model at its own pace; run the "
            "models one at a time, with the key model, or leave one of the two out."
        )
    for experiment in suite.experiments.values():
        ask(experiment)
    shard, until = chosen.get("shard"), chosen.get("until")
    how = {"exact": exact, "shard": shard and str(shard), "until": until and {"precision": until.precision}}
    suite = replace(suite, how=how)
    suites.begin(suite, out)
    _go(suite, source, out, exact, chosen)


def resume_suite(directory: Path, chosen: dict[str, Any]) -> None:
    """Go on with every model's run that is not finished, those that were not begun included."""
    from ropewalk.execution.pace import Stopping
    from ropewalk.execution.shard import Shard
    from ropewalk.experiment import suite as suites
    from ropewalk.model_spec import ModelSpec

    suite = suites.read(directory)
    for name, experiment in suite.experiments.items():
        if ModelSpec.parse(experiment.model).trust_remote_code:
            raise StoreError(
                f"{directory / name}: was asked with trust_remote_code, to which a directory cannot consent; go on "
                f"with `ropewalk run FILE --out {directory}`."
            )
    shard, until = suite.how.get("shard"), suite.how.get("until")
    chosen["shard"] = None if shard is None else Shard.parse(str(shard))
    chosen["until"] = None if until is None else Stopping(precision=until["precision"])
    finished = frozenset() if until else frozenset(filter(lambda name: _finished(directory / name), suite.experiments))
    _go(suite, "", directory, bool(suite.how.get("exact")), chosen, finished)


def _finished(run: Path) -> bool:
    from ropewalk.execution.run import is_finished
    from ropewalk.experiment.store import Store

    try:
        return Store.exists(run) and is_finished(run)
    except StoreError:  # a commit that a kill cut short, which going on undoes, or what going on refuses
        return False


def _go(
    suite: Suite,
    source: str,
    out: Path,
    exact: bool,
    chosen: dict[str, Any],
    finished: frozenset[str] = frozenset(),
) -> None:
    _say_absent(suite)
    failed, broken = False, list[ModelError]()
    for name, experiment in suite.experiments.items():
        if name in finished:
            err.print(f"{name}: every cell is measured, nothing is left to do", markup=False)
            continue
        err.print(f"{name}:", markup=False)
        try:
            sweep_and_say(experiment, source, out / name, exact, **chosen)
        except typer.Exit:  # some of its cells failed, which it has said
            failed = True
        except ModelError as error:
            broken.append(error)
            err.print(visible(str(error)), markup=False)
    if len(broken) == len(suite.experiments):
        raise broken[0]
    if chosen.get("shard") is None:
        _write(out)
        command = shlex.join(["ropewalk", "report", str(out)])
        err.print(f"next: {command}  # every model's page and the joint one", markup=False)
    if failed or broken:
        raise typer.Exit(1)


def _write(out: Path) -> None:
    from ropewalk.report.joint import write
    from ropewalk.terminal import say

    say(*write(out))


def _say_absent(suite: Suite) -> None:
    for name, reason in suite.absent.items():
        err.print(visible(f"{name} is left out: {reason}"), markup=False)


def report_suite(directory: Path, partial: bool) -> None:
    """Every model's report, then the joint page."""
    from ropewalk.experiment import suite as suites
    from ropewalk.experiment.run_data import RunData
    from ropewalk.export import names
    from ropewalk.report.write import report_of
    from ropewalk.terminal import say

    for run in _begun(suites.members(directory)):
        data = RunData.read(run)
        say_missing(data.missing)
        say(*report_of(data, partial=partial, targets=names()))
    _write(directory)


def _begun(members: Mapping[str, Path]) -> Iterator[Path]:
    from ropewalk.experiment.store import Store

    for name, run in members.items():
        if Store.exists(run):
            yield run
        else:
            err.print(f"{name}: is not begun.", markup=False)


def status_suite(directory: Path, as_json: bool) -> None:
    """How far every model's run is."""
    from ropewalk.execution.status import lines, status
    from ropewalk.experiment import suite as suites
    from ropewalk.terminal import tell

    found = {run.name: status(run) for run in _begun(suites.members(directory))}
    if as_json:
        return print_json({name: asdict(each) for name, each in found.items()})
    for name, each in found.items():
        tell(f"{name}:", *(f"  {line}" for line in lines(each)))
    return None


def merge_suite(directories: Sequence[Path], out: Path) -> None:
    """Merge the shards of every model, and write the joint page.

    Raises:
        StoreError: they are no shards of one suite; nothing of the models after the first that fails is written.
    """
    from dataclasses import replace

    from ropewalk.execution.merge import merge
    from ropewalk.experiment import suite as suites
    from ropewalk.experiment.guards import require_empty

    require_empty(out)
    first = suites.read(directories[0])
    for each in directories[1:]:
        if not suites.exists(each) or list(suites.read(each).experiments) != list(first.experiments):
            raise StoreError(f"{each}: is no shard of the suite in {directories[0]}; name shards of one suite.")
    with contextlib.ExitStack() as undo:
        for name in first.experiments:
            found = merge([each / name for each in directories], out / name)
            undo.callback(_remove, out)
            say_missing(found.missing)
            err.print(f"{name}: {len(found.rows())} cells in {out / name}", markup=False)
        undo.pop_all()
    suites.begin(replace(first, how=dict(first.how) | {"shard": None}), out)
    _write(out)


def _remove(out: Path) -> None:
    """A directory that was empty before a merge that failed."""
    import shutil

    shutil.rmtree(out, ignore_errors=True)
