"""The command line: parse, wire, print. stdout is data, stderr is progress; exit 0 done, 1 a cell failed, 2 usage."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ropewalk.errors import ExperimentError, RopewalkError, StoreError, visible

if TYPE_CHECKING:
    from ropewalk.experiment.missing import Missing

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure which RoPE context-extension method works on your model, at which length.",
)
err = Console(stderr=True, highlight=False, soft_wrap=True)

DEMO_DIRECTORY = Path("ropewalk-demo")
DEMO_METRICS = ("perplexity", "tail", "passkey")

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Replaces `model` of the file.")]
LengthsOption = Annotated[
    list[str] | None, typer.Option("--lengths", help="Replaces `lengths`; comma-separated or repeated.")
]
ParamList = Annotated[
    list[str] | None, typer.Option("-p", metavar="KEY=VALUE", help="A parameter; YAML value; repeats.")
]


PartialFlag = Annotated[
    bool, typer.Option("--partial", help="Choose though cells are missing; the choice may change with them.")
]


def main() -> None:
    """Entry point of the console script; SIGTERM, which batch systems send, ends a run as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # threads that spin while they wait cost a sweep ten times its time beside another busy program
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
    from ropewalk.terminal import run_app

    sys.exit(run_app(app, err))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run directory; one that holds the demo goes on.")] = DEMO_DIRECTORY,
) -> None:
    """Run the built-in sweep on the built-in model, and print what it says."""
    from ropewalk.experiment.results import Run
    from ropewalk.report import study, wording, write
    from ropewalk.report.recommend import recommend
    from ropewalk.terminal import results_table, say

    experiment, source = _experiment("preset:demo", None, None)
    _run(experiment, source, out, False)
    longest = experiment.lengths[-1]
    rows = [row for row in Run.open(out).labelled_rows() if row["length"] == longest and row["metric"] in DEMO_METRICS]
    Console(width=None if sys.stdout.isatty() else 160).print(results_table(rows))
    page, *_ = write.report(out)
    say(wording.headline(recommend(study.read(out).run, longest)), page)


@app.command()
def methods(as_json: JsonFlag = False) -> None:
    """List the methods with their parameters, ranges, defaults and papers."""
    from ropewalk.methods import describe, registered

    found = [describe(name) for name in registered()]
    if as_json:
        return _print_json(found)
    table = Table("method", "parameters", "paper", "when to use", show_lines=False, box=None, pad_edge=False)
    for method in found:
        own = [p for p in method["parameters"] if p["name"] not in ("original_max_position_embeddings", "compose")]
        table.add_row(
            method["name"], ", ".join(_parameter(p) for p in own) or "-", method["paper"] or "-", method["summary"]
        )
    Console().print(table)
    return None


def _parameter(parameter: dict[str, Any]) -> str:
    if parameter.get("required"):
        return f"{parameter['name']} ({parameter['range']})"
    return f"{parameter['name']}={json.dumps(parameter['default'])}"


@app.command()
def rotation(
    method: Annotated[str, typer.Argument(help="A method's name, see `ropewalk methods`.")],
    length: Annotated[int, typer.Option(min=1, help="Target length, tokens.")],
    model: Annotated[str | None, typer.Option(help="Hub id, directory, .gguf file or built-in name.")] = None,
    rotary_dim: Annotated[int | None, typer.Option(help="Rotated dimensions per head, without a model.")] = None,
    rope_theta: Annotated[float | None, typer.Option(help="Unscaled base, without a model.")] = None,
    window: Annotated[int | None, typer.Option(min=1, help="Trained window, tokens.")] = None,
    p: ParamList = None,
    as_json: JsonFlag = False,
) -> None:
    """Print one method's inv_freq (rad/token) and attention_factor."""
    import dataclasses

    from ropewalk.methods import inlined, make_params, resolve
    from ropewalk.rope import RopeGeometry

    params = make_params(method, inlined(method, parse_parameters(p)))
    if model is not None:
        if rotary_dim is not None or rope_theta is not None:
            raise ExperimentError(f"--model {model} already gives rotary_dim and rope_theta; leave one of them out.")
        from ropewalk.models import ModelSpec, read_geometry  # imports torch

        geometry = read_geometry(ModelSpec.parse(model))
        if window is not None:
            geometry = dataclasses.replace(geometry, window_override=window)
    elif rotary_dim is None or rope_theta is None or window is None:
        raise ExperimentError("rotation: give either --model, or all of --rotary-dim, --rope-theta and --window.")
    else:
        geometry = RopeGeometry(rotary_dim=rotary_dim, rope_theta=rope_theta, max_position_embeddings=window)
    found = resolve(geometry, method, params, length).rotation
    values = {
        "inv_freq": found.inv_freq.tolist(),
        "attention_factor": found.attention_factor,
        "softmax_factor": found.softmax_factor,
        "fingerprint": found.fingerprint,
    }
    if as_json:
        return _print_json(values)
    softmax = "" if found.softmax_factor == 1 else f"  softmax_factor {found.softmax_factor:.6g}"
    print(f"fingerprint {found.fingerprint}  attention_factor {found.attention_factor:.6g}{softmax}")
    for index, (plain, scaled) in enumerate(zip(geometry.unscaled_inv_freq, found.inv_freq, strict=True)):
        ratio = plain / scaled if scaled else float("inf")
        print(
            f"{index:4d}  inv_freq {scaled:.9e}  wavelength {2 * 3.141592653589793 / scaled if scaled else 0:14.2f}"
            f"  lambda {ratio:.6g}"
        )
    return None


@app.command()
def inspect(model: str, as_json: JsonFlag = False) -> None:
    """Show a model's RoPE geometry: window, wavelengths, dimensions that never complete a turn in the window."""
    from ropewalk.experiment.inspect import facts, lines
    from ropewalk.models import ModelSpec, read_geometry

    found = facts(read_geometry(ModelSpec.parse(model)))
    if as_json:
        return _print_json(found)
    print("\n".join(lines(model, found)))
    return None


@app.command()
def plan(
    file: Annotated[str, typer.Argument(help="Experiment file, or preset:NAME.")],
    model: ModelOption = None,
    lengths: LengthsOption = None,
    out: Annotated[Path | None, typer.Option(help="A run directory, to count what is done.")] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Say the longest length that fits, such as into 12GB.")
    ] = None,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Leave out the time, which takes the model and about a minute.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show cells, duplicates, passes, tokens, memory and, from a short probe, time of an experiment not yet run."""
    from ropewalk.experiment import estimate
    from ropewalk.experiment import memory as needs
    from ropewalk.experiment.overview import lines, overview, time_line
    from ropewalk.experiment.prepare import ask
    from ropewalk.terminal import progress, say

    given = None if memory is None else needs.parse_bytes(memory, "--memory")
    experiment, _ = _experiment(file, model, lengths)
    asked = ask(experiment)
    memory_needed, expected = needs.of(asked, given), None
    if not as_json:
        say(*lines(overview(asked, out, None, memory_needed)))
    if not no_probe and estimate.can_probe(asked):
        err.print(f"probing for at most {estimate.LIMIT_S:.0f} s once the model is loaded; --no-probe leaves it out.")
        with progress(err, "probes") as report:
            expected = estimate.of(asked, report)
    if as_json:
        return _print_json(overview(asked, out, expected, memory_needed))
    say(time_line(expected, probed=not no_probe))
    return None


@app.command()
def run(
    file: Annotated[str, typer.Argument(help="Experiment file, or preset:NAME.")],
    out: Annotated[Path, typer.Option(help="Run directory; new, or of the same experiment to resume.")],
    model: ModelOption = None,
    lengths: LengthsOption = None,
    exact: Annotated[bool, typer.Option(help="Float32, eager attention, one row at a time.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per visible GPU, one on a CPU.")
    ] = None,
    gpus_per_model: Annotated[int, typer.Option(min=1, help="GPUs of each worker, with device_map: auto.")] = 1,
    ray: Annotated[str | None, typer.Option(help="A Ray cluster: auto, local, or its address.")] = None,
    shard: Annotated[str | None, typer.Option(metavar="K/N", help="Only the K-th of N parts; see merge.")] = None,
) -> None:
    """Run an experiment, or resume it."""
    from ropewalk.execution.shard import Shard
    from ropewalk.execution.table import choose

    chosen = choose(workers=workers, gpus_per_model=gpus_per_model, ray=ray)
    chosen["shard"] = None if shard is None else Shard.parse(shard)
    experiment, source = _experiment(file, model, lengths)
    _run(experiment, source, out, exact, **chosen)


@app.command()
def merge(
    directories: Annotated[list[Path], typer.Argument(help="The directory of every shard.")],
    out: Annotated[Path, typer.Option(help="Run directory; new.")],
) -> None:
    """Put the shards of a run together."""
    from ropewalk.execution.merge import merge as together

    found = together(directories, out)
    _say(found.missing)
    err.print(f"{len(found.rows())} cells in {out}", markup=False)


@app.command()
def status(directory: Path, as_json: JsonFlag = False) -> None:
    """Say how far a run is, from any terminal, while it goes on."""
    from dataclasses import asdict

    from ropewalk.execution.status import lines, status
    from ropewalk.terminal import say

    found = status(directory)
    if as_json:
        return _print_json(asdict(found))
    return say(*lines(found))


@app.command()
def results(
    directory: Path,
    as_json: JsonFlag = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
) -> None:
    """Print one row per (method, params, length, metric)."""
    from ropewalk.experiment.results import Run
    from ropewalk.terminal import csv_text, results_table

    found = Run(directory=directory)
    _say(found.missing)
    if as_json:
        return _print_json(found.rows())
    if csv:
        print(csv_text(found.rows()), end="")
        return None
    Console(width=None if sys.stdout.isatty() else 160).print(results_table(found.labelled_rows()))
    return None


@app.command()
def verify(
    directory: Path,
    cells: Annotated[
        int, typer.Option(min=0, help="Passes and trials to run again; opens the model and documents that it names.")
    ] = 0,
) -> None:
    """Recompute every reported number from raw outcomes, and with --cells some raw outcomes from the model."""
    from ropewalk.execution.rerun import verify_passes
    from ropewalk.experiment.results import Run
    from ropewalk.experiment.verify import verify_rows

    checked, wrong = verify_rows(directory)
    missing = None
    with contextlib.suppress(StoreError):  # a torn file is a mismatch, which is said below
        missing = Run(directory=directory).missing
        _say(missing)
    of, again, notes = f" of {missing.asked}" if missing else "", 0, list[str]()
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
    if wrong or missing is None or missing.cells:
        raise typer.Exit(1)
    if not cells:
        err.print("No pass was run again: --cells K does, with the model and documents that the run names.")


@app.command()
def report(directory: Path, partial: PartialFlag = False) -> None:
    """Write report.html, report.md and figures/*.png into a run directory; prints their paths."""
    from ropewalk.experiment.results import Run
    from ropewalk.report.write import report as write
    from ropewalk.terminal import say

    _say(Run(directory=directory).missing)
    say(*write(directory, partial=partial))


@app.command()
def recommend(
    directory: Path,
    length: Annotated[int, typer.Option(min=1, help="Target length, tokens.")],
    max_short_cost: Annotated[
        float | None, typer.Option(metavar="PCT", help="Largest loss of perplexity inside the window, per cent.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="perplexity, passkey, or both: passkeys among those that perplexity ties.")
    ] = "both",
    min_passkey: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Smallest share of passkeys found at the length, 0 to 1.")
    ] = None,
    partial: PartialFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Say which configuration to use at a length, on what evidence, and what is tied with it."""
    from ropewalk.experiment.store import sound
    from ropewalk.report.deploy import deploy_command
    from ropewalk.report.printing import recommendation_json, recommendation_lines
    from ropewalk.report.recommend import recommend as choose
    from ropewalk.report.study import read_to_choose
    from ropewalk.terminal import say

    with sound(directory):
        found, missing = read_to_choose(directory, partial=partial)
        _say(missing)
        answer = choose(found, length, max_short_cost, by=by, min_passkey=min_passkey)
        command = deploy_command(found, answer.choice.method, answer.choice.params, answer.judged_at)
    if as_json:
        return _print_json(recommendation_json(answer, command, missing.cells))
    said = str(missing) if missing.cells else ""
    say(*recommendation_lines(answer, command, said))
    return None


@app.command()
def export(
    source: Annotated[str, typer.Argument(help="A run directory, to export what it recommends; or a method's name.")],
    target: Annotated[str, typer.Option(help="hf, vllm, sglang or llama.cpp.")],
    model: Annotated[
        str | None, typer.Option(help="Hub id, directory, .gguf file or built-in name; for a METHOD.")
    ] = None,
    p: ParamList = None,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens to serve; default factor x window.")] = None,
    out: Annotated[Path | None, typer.Option(help="What to write: a model directory, a .gguf, or the line.")] = None,
    gguf: Annotated[Path | None, typer.Option(help="The .gguf to serve; with --out a rewritten copy of it.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Run the exported form and compare its token losses.")] = False,
    endpoint: Annotated[str | None, typer.Option(metavar="URL", help="With --check: your own running server.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what --out names.")] = False,
    partial: PartialFlag = False,
) -> None:
    """Write one rotation as an engine's configuration: on stdout; what that engine does differently: on stderr."""
    from ropewalk.export import command
    from ropewalk.terminal import say

    options = command.Options(out=out, gguf=gguf, check=check, endpoint=endpoint, force=force, partial=partial)
    parameters = parse_parameters(p)
    text, notes = command.run(source, target, model=model, params=parameters, length=length, options=options)
    for note in notes:
        err.print(visible(note), markup=False)
    say(text)


@app.command()
def search(
    file: Annotated[str, typer.Argument(help="Experiment file, perhaps with a section `search`, or preset:NAME.")],
    length: Annotated[int, typer.Option(min=1, help="Target length, tokens; beyond the window.")],
    out: Annotated[Path, typer.Option(help="Directory; new, or of the same search to resume.")],
    evaluations: Annotated[int | None, typer.Option(min=1, help="Candidates per repeat; default 500.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time to search instead, such as 90s or 5m.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first repeat.")] = 0,
    max_short_cost: Annotated[
        float | None, typer.Option(metavar="PCT", help="Largest loss of perplexity inside the window, per cent.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Seeds to search with.")] = 1,
) -> None:
    """Search for a rotation that beats every named method on this model, and judge it on text it never saw."""
    from ropewalk.searching.asked import Request, seconds
    from ropewalk.searching.lines import lines
    from ropewalk.searching.run import search as find
    from ropewalk.terminal import progress, say

    if evaluations is not None and budget is not None:
        raise ExperimentError(f"--evaluations {evaluations} and --budget {budget}: give one of them.")
    asked = Request(
        length=length,
        evaluations=500 if evaluations is None else evaluations,
        budget_s=None if budget is None else seconds(budget),
        seed=seed,
        max_short_cost=max_short_cost,
        repeats=repeats,
    )
    experiment, _ = _experiment(file, None, None)
    with progress(err, "seconds" if budget else "candidates") as report:
        found = find(experiment, asked, out, progress=report)
    say(*lines(found.result), found.file)


@app.command()
def compare(directory_a: Path, directory_b: Path, as_json: JsonFlag = False) -> None:
    """Compare two runs: what differs in provenance, then every common cell, paired where documents agree."""
    from ropewalk.experiment.store import sound
    from ropewalk.report.compare import compare as contrast
    from ropewalk.report.printing import compared_json, compared_lines, compared_table
    from ropewalk.report.study import read
    from ropewalk.terminal import say

    with sound(directory_a):
        first = read(directory_a)
    with sound(directory_b):
        second = read(directory_b)
        for name, one in zip(("A", "B"), (first, second), strict=True):
            _say(one.missing, f"{name}: ")
        found = contrast(first, second)
    if as_json:
        return _print_json(compared_json(found))
    say(*compared_lines(found))
    shown = compared_table(found)
    columns = (Column(name, justify="right" if name in shown.numeric else "left") for name in shown.columns)
    table = Table(*columns, box=None, pad_edge=False)
    for row in shown.rows:
        table.add_row(*(escape(visible(text)) for text in row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return None


def parse_parameters(pairs: list[str] | None) -> dict[str, Any]:
    """`key=value` pairs with YAML values."""
    from ropewalk.experiment.schema import load_yaml

    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in found:
            raise ExperimentError(f"-p {pair!r}: must be key=value, each key once; such as -p factor=2.")
        found[key] = load_yaml(value, f"-p {key}")
    return found


def parse_lengths(asked: list[str] | None) -> list[int] | None:
    """`128,256`, or the option repeated, to tokens; None if it was not given."""
    if not asked:
        return None
    parts = [part.strip() for item in asked for part in item.split(",")]
    if not all(part.isdecimal() and len(part) < 10 for part in parts):
        raise ExperimentError(f"--lengths {' '.join(asked)}: must be whole numbers of tokens, such as 2048,4096.")
    return [int(part) for part in parts]


def _experiment(file: str, model: str | None, lengths: list[str] | None) -> tuple[Any, str]:
    from ropewalk.experiment import presets, schema

    preset = file.startswith("preset:")
    text = presets.text(file.removeprefix("preset:")) if preset else schema.read(Path(file))
    raw = schema.load_yaml(text, file)
    asked = {"model": model, "lengths": parse_lengths(lengths)}
    if isinstance(raw, dict):
        raw |= {key: value for key, value in asked.items() if value is not None}
    return schema.parse(raw, file), text


def _say(missing: Missing, before: str = "") -> None:
    """What a run lacks, on stderr, before anything else is said of it."""
    if missing.cells:
        err.print(f"{before}{missing}", markup=False)


def _run(experiment: Any, source: str, out: Path, exact: bool, **chosen: Any) -> None:
    from ropewalk.execution.run import sweep
    from ropewalk.experiment.prepare import ask
    from ropewalk.experiment.results import Run
    from ropewalk.terminal import progress

    asked = ask(experiment)
    try:
        with progress(err) as report:
            found = sweep(asked, out, source=source, exact=exact, progress=report, **chosen)
    except KeyboardInterrupt:
        with contextlib.suppress(RopewalkError):  # nothing was begun
            _say(Run(directory=out).missing)
        raise
    rows = found.labelled_rows()
    failed = [row for row in rows if row["status"] in ("error", "out_of_memory")]
    err.print(f"{len(rows)} cells in {out}", markup=False)
    for row in failed[:5]:
        said = f"{row['label']} @ {row['length']} {row['metric']}: {row['status']}: {row['reason']}"
        err.print(visible(said), markup=False)
    if failed:
        raise typer.Exit(1)


def _print_json(value: Any) -> None:
    from ropewalk.terminal import json_text

    print(json_text(value))


__all__ = ["RopewalkError", "app", "main"]
