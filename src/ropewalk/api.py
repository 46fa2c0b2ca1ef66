"""The Python API: the verbs of the command line as functions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropewalk import models
from ropewalk.errors import ModelError
from ropewalk.execution import run as running
from ropewalk.execution.loggers import logger
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import Progress, ask
from ropewalk.methods import inlined, make_params, resolve
from ropewalk.metrics import METRICS
from ropewalk.models import LoadedModel, ModelSpec
from ropewalk.models.in_memory import borrowed
from ropewalk.notebook import Run
from ropewalk.progress import watched
from ropewalk.rope import RopeGeometry, Rotation

if TYPE_CHECKING:
    from ropewalk.experiment.verify import Mismatch
    from ropewalk.report.compare import Compared
    from ropewalk.report.recommend import Recommendation
    from ropewalk.tuning.run import Found as Tuned

Methods = Mapping[str, Any] | Sequence[str]
"""Method names to parameters, or names alone; a text is refused, as a file refuses it."""
Lengths = Sequence[int | str]
"""Tokens; `"4k"` is 4096."""


def load(model: str | Mapping[str, Any], *, dtype: str = "auto", device: str | None = None) -> LoadedModel:
    """Load a model by hub id, directory, `.gguf` file or built-in name (`strand`, `smollm2`).

    Raises:
        ModelError: it cannot be found, read or placed.
    """
    return models.load(ModelSpec.parse(model), dtype=dtype, device=device)


def rotation(geometry: RopeGeometry, method: str, length: int, **params: Any) -> Rotation:
    """The rotation of a method at a length (tokens), e.g. `rotation(model.geometry, "yarn", 16384, factor=2)`.

    Raises:
        MethodError: unknown method or parameter, or a value out of range.
    """
    return resolve(geometry, method, make_params(method, inlined(method, params)), length).rotation


def sweep(
    model: Any,
    tokenizer: Any = None,
    *,
    methods: Methods,
    lengths: Lengths,
    out: str | Path,
    documents: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    dtype: str = "auto",
    window: int | None = None,
    seed: int = 0,
    exact: bool = False,
    progress: Progress | None = None,
    reuse: Run | str | Path | None = None,
    log: str | None = None,
) -> Run:
    """Run or resume a sweep; the arguments are the keys of the experiment file.

    A `LoadedModel`, or a model of transformers with its `tokenizer`, is measured as it is in memory (`dtype` then only
    goes into the record). `progress` is called with what is done, tokens done, tokens in all; without it a bar is
    drawn in a terminal, and lines are printed in a notebook. `reuse` is another run of the same model, of which what
    it has measured already is taken. `log` names who shows the run elsewhere too: trackio, wandb, mlflow, or a
    package's.

    Raises:
        RopewalkError: one sentence naming the argument, its value and the remedy.
    """
    told: dict[str, Any] = {"reuse": None if reuse is None else _directory(reuse), "exact": exact}
    told["log"] = None if log is None else logger(log)
    with _in_memory(model, tokenizer) as found:
        experiment, loaded = _experiment("sweep", found, methods, lengths, documents, metrics, dtype, window, seed)
        with watched(progress) as report:
            run = running.sweep(ask(experiment, loaded), Path(out), progress=report, **told)
    return Run(data=run.data)


def plan(
    model: str | Mapping[str, Any] | LoadedModel,
    *,
    methods: Methods,
    lengths: Lengths,
    documents: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    dtype: str = "auto",
    window: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What a sweep with the same arguments would do, as `ropewalk plan --json --no-probe` says it.

    Raises:
        RopewalkError: as `sweep`.
    """
    from ropewalk.experiment import memory
    from ropewalk.experiment.overview import overview

    experiment, loaded = _experiment("plan", model, methods, lengths, documents, metrics, dtype, window, seed)
    asked = ask(experiment, loaded)
    return overview(asked, None, None, memory.of(asked, None))


def recommend(
    run: Run | str | Path,
    length: int,
    *,
    max_short_cost: float | None = None,
    by: str = "both",
    min_found: float | None = None,
    partial: bool = False,
) -> Recommendation:
    """Which configuration to use at a length (tokens), on what evidence, and what is tied with it.

    Raises:
        RopewalkError: nothing was measured there, or cells are missing and not `partial`.
    """
    from ropewalk.experiment.guards import sound
    from ropewalk.report.recommend import recommend as choose
    from ropewalk.report.study import read_to_choose

    with sound(_directory(run)):
        found, _ = read_to_choose(_directory(run), partial=partial)
        return choose(found, length, max_short_cost, by=by, min_found=min_found)


def compare(a: Run | str | Path, b: Run | str | Path) -> Compared:
    """Run B against run A: what differs in provenance, and every common cell, paired where documents agree.

    Raises:
        RopewalkError: they share nothing that can be compared.
    """
    from ropewalk.experiment.guards import sound
    from ropewalk.report.compare import compare as contrast
    from ropewalk.report.study import read

    with sound(_directory(a)):
        first = read(_directory(a))
    with sound(_directory(b)):
        return contrast(first, read(_directory(b)))


def verify(run: Run | str | Path, *, cells: int = 0) -> list[Mismatch]:
    """What does not come out again: every value from its raw outcomes, and `cells` outcomes from the model; empty
    where all does.

    Raises:
        RopewalkError: there is no run, or its model and documents cannot be opened.
    """
    from ropewalk.execution.rerun import verify_passes
    from ropewalk.experiment.verify import verify_rows

    _, wrong = verify_rows(_directory(run))
    return wrong if wrong or not cells else verify_passes(_directory(run), cells)[1]


def _directory(run: Run | str | Path) -> Path:
    return run.directory if isinstance(run, Run) else Path(run)


@contextlib.contextmanager
def _in_memory(model: Any, tokenizer: Any) -> Iterator[Any]:
    """What names a model as it is; a model of transformers with its tokenizer as a LoadedModel."""
    if isinstance(model, (str, Mapping, LoadedModel)):
        if tokenizer is not None:
            raise ModelError("tokenizer: belongs to a model of transformers in memory; leave it out with a name.")
        yield model
        return
    with borrowed(model, tokenizer) as found:
        yield found


def tune(
    model: str | Mapping[str, Any] | LoadedModel,
    *,
    length: int,
    out: str | Path,
    lengths: Sequence[int] = (),
    methods: Methods = ("none",),
    documents: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    steps: int | None = None,
    budget_s: float | None = None,
    repeats: int = 1,
    what: str | None = None,
    near: Sequence[int] = (),
    max_short_cost: float | None = None,
    dtype: str = "auto",
    window: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tuned:
    """Find a rotation and gains of the query by gradient descent, judged on documents that it never saw.

    Args are those of `ropewalk tune`; `lengths` are judged beside `length`, `methods` beside the usual ones. `metrics`
    left out are perplexity and what gives prompts: without any nothing keeps what a model finds in its context.
    `progress` is called with what is done, steps done, steps in all; without it as in `sweep`.

    Raises:
        RopewalkError: one sentence naming the argument, its value and the remedy.
    """
    from ropewalk.tuning.asked import Request
    from ropewalk.tuning.run import tune as find

    judged = sorted({*lengths, length})
    if metrics is None:
        names = ("perplexity", *(name for name, metric in METRICS.items() if metric.probes is not None))
        metrics = {name: dict[str, Any]() for name in names}
    experiment, loaded = _experiment("tune", model, methods, judged, documents, metrics, dtype, window, seed)
    asked = Request(
        length=length,
        steps=steps,
        budget_s=budget_s,
        seed=seed,
        repeats=repeats,
        what=what,
        near=tuple(near),
        max_short_cost=max_short_cost,
    )
    with watched(progress) as report:
        return find(experiment, asked, Path(out), loaded=loaded, progress=report)


def _experiment(
    place: str,
    model: str | Mapping[str, Any] | LoadedModel,
    methods: Methods,
    lengths: Lengths,
    documents: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    dtype: str,
    window: int | None,
    seed: int,
) -> tuple[schema.Experiment, LoadedModel | None]:
    """The arguments as an experiment, and the model if it is in memory already."""
    loaded = model if isinstance(model, LoadedModel) else None
    named = model.provenance.id if isinstance(model, LoadedModel) else model
    raw: dict[str, Any] = {
        "model": named if isinstance(named, str) else dict(named),
        "methods": dict(methods) if isinstance(methods, Mapping) else _listed(methods),
        "lengths": _listed(lengths),
        "documents": {"corpus": "builtin"} if documents is None else dict(documents),
        "metrics": {"perplexity": {}} if metrics is None else dict(metrics),
        "dtype": dtype,
        "seed": seed,
    }
    return schema.parse(raw if window is None else raw | {"window": window}, place), loaded


def _listed(values: Any) -> Any:
    """A sequence as a list; anything else as it is, for the schema to refuse, a text included."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str) else values
