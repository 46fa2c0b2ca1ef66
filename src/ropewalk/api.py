"""The Python API: the verbs of the command line as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ropewalk import models
from ropewalk.execution import run as running
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.results import Run
from ropewalk.methods import inlined, make_params, resolve
from ropewalk.models import LoadedModel, ModelSpec
from ropewalk.rope import RopeGeometry, Rotation

if TYPE_CHECKING:
    from ropewalk.searching.run import Found
    from ropewalk.tuning.run import Found as Tuned


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
    model: str | Mapping[str, Any] | LoadedModel,
    *,
    methods: Mapping[str, Any] | Sequence[str],
    lengths: Sequence[int],
    out: str | Path,
    documents: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    dtype: str = "auto",
    window: int | None = None,
    seed: int = 0,
    exact: bool = False,
) -> Run:
    """Run or resume a sweep; the arguments are the keys of the experiment file.

    A `LoadedModel` is measured as it is in memory (`dtype` then only goes into the record).

    Raises:
        RopewalkError: one sentence naming the argument, its value and the remedy.
    """
    experiment, loaded = _experiment("sweep", model, methods, lengths, documents, metrics, dtype, window, seed)
    return running.sweep(ask(experiment, loaded), Path(out), exact=exact)


def search(
    model: str | Mapping[str, Any] | LoadedModel,
    *,
    length: int,
    out: str | Path,
    lengths: Sequence[int] = (),
    methods: Mapping[str, Any] | Sequence[str] = ("none",),
    documents: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    section: Mapping[str, Any] | None = None,
    evaluations: int = 500,
    budget_s: float | None = None,
    repeats: int = 1,
    max_short_cost: float | None = None,
    dtype: str = "auto",
    window: int | None = None,
    seed: int = 0,
) -> Found:
    """Search for a rotation for `length` tokens that beats every named method, or resume, and judge it.

    `section` is the experiment file's `search`; `methods` are to be beaten beside the usual ones, `lengths` judged
    beside the searched one.

    Raises:
        RopewalkError: one sentence naming the argument, its value and the remedy.
    """
    from ropewalk.searching.asked import Request
    from ropewalk.searching.run import search as find

    judged = sorted({*lengths, length})
    experiment, loaded = _experiment("search", model, methods, judged, documents, metrics, dtype, window, seed, section)
    asked = Request(
        length=length,
        evaluations=evaluations,
        budget_s=budget_s,
        seed=seed,
        max_short_cost=max_short_cost,
        repeats=repeats,
    )
    return find(experiment, asked, Path(out), loaded=loaded)


def tune(
    model: str | Mapping[str, Any] | LoadedModel,
    *,
    length: int,
    out: str | Path,
    lengths: Sequence[int] = (),
    methods: Mapping[str, Any] | Sequence[str] = ("yarn",),
    documents: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    steps: int | None = None,
    budget_s: float | None = None,
    repeats: int = 1,
    what: str | None = None,
    max_short_cost: float | None = None,
    dtype: str = "auto",
    window: int | None = None,
    seed: int = 0,
) -> Tuned:
    """Find a rotation and gains of the query by gradient descent, judged on documents that it never saw.

    Args are those of `ropewalk tune`; `lengths` are judged beside `length`, `methods` beside the usual ones.

    Raises:
        RopewalkError: one sentence naming the argument, its value and the remedy.
    """
    from ropewalk.tuning.asked import Request
    from ropewalk.tuning.run import tune as find

    judged = sorted({*lengths, length})
    experiment, loaded = _experiment("tune", model, methods, judged, documents, metrics, dtype, window, seed)
    asked = Request(
        length=length,
        steps=steps,
        budget_s=budget_s,
        seed=seed,
        repeats=repeats,
        what=what,
        max_short_cost=max_short_cost,
    )
    return find(experiment, asked, Path(out), loaded=loaded)


def _experiment(
    place: str,
    model: str | Mapping[str, Any] | LoadedModel,
    methods: Mapping[str, Any] | Sequence[str],
    lengths: Sequence[int],
    documents: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    dtype: str,
    window: int | None,
    seed: int,
    section: Mapping[str, Any] | None = None,
) -> tuple[schema.Experiment, LoadedModel | None]:
    """The arguments as an experiment, and the model if it is in memory already."""
    loaded = model if isinstance(model, LoadedModel) else None
    named = model.provenance.id if isinstance(model, LoadedModel) else model
    raw: dict[str, Any] = {
        "model": named if isinstance(named, str) else dict(named),
        "methods": dict(methods) if isinstance(methods, Mapping) else list(methods),
        "lengths": list(lengths),
        "documents": {"corpus": "builtin"} if documents is None else dict(documents),
        "metrics": {"perplexity": {}} if metrics is None else dict(metrics),
        "dtype": dtype,
        "seed": seed,
    }
    optional = {"window": window, "search": None if section is None else dict(section)}
    return schema.parse(raw | {key: value for key, value in optional.items() if value is not None}, place), loaded
