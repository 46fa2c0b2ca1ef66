"""The Python API: the verbs of the command line as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ropewalk import models
from ropewalk.experiment import run as running
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.results import Run
from ropewalk.methods import make_params, resolve
from ropewalk.models import LoadedModel, ModelSpec
from ropewalk.rope import RopeGeometry, Rotation


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
    return resolve(geometry, method, make_params(method, params), length).rotation


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
    loaded = model if isinstance(model, LoadedModel) else None
    named = model.provenance.id if isinstance(model, LoadedModel) else model
    raw: dict[str, Any] = {
        "model": named if isinstance(named, str) else dict(named),
        "methods": dict(methods) if isinstance(methods, Mapping) else methods,
        "lengths": list(lengths),
        "documents": {"corpus": "builtin"} if documents is None else dict(documents),
        "metrics": {"perplexity": {}} if metrics is None else dict(metrics),
        "dtype": dtype,
        "seed": seed,
    }
    if window is not None:
        raw["window"] = window
    return running.sweep(ask(schema.parse(raw, "sweep"), loaded), Path(out), exact=exact)
