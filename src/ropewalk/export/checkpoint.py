"""Read what an export depends on out of a model's configuration; no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export.request import Checkpoint
from ropewalk.model_spec import ModelSpec
from ropewalk.models.foreign import quiet, sentences
from ropewalk.models.geometry import geometry_of
from ropewalk.models.load import read_config
from ropewalk.models.source import Source, find, pinned
from ropewalk.rope import RopeGeometry


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A model without its weights."""

    spec: ModelSpec
    source: Source
    geometry: RopeGeometry
    checkpoint: Checkpoint


def describe(spec: ModelSpec) -> Described:
    """Find a model and read its configuration.

    Raises:
        ModelError: it cannot be had, or has no rotary position embeddings.
        ExportError: its text model's configuration lies where no engine's override is known to reach.
    """
    with quiet(), sentences(spec.id, spec.revision):
        source = find(spec, weights=False)
        config = read_config(source, spec)
        geometry = geometry_of(config)
        source = pinned(source)
    return Described(
        spec=spec, source=source, geometry=geometry, checkpoint=checkpoint_of(config, name=_name(spec, source))
    )


def checkpoint_of(config: Any, *, name: str = "MODEL") -> Checkpoint:
    """The part of a transformers configuration that decides the shape of an export."""
    text = config.get_text_config(decoder=True)
    nested = text is not config
    if nested and getattr(config, "text_config", None) is not text:
        raise ExportError(
            f"{type(config).__name__} keeps its text model elsewhere than under text_config, and no engine's override "
            "is known to reach it; edit its rope_parameters by hand, from the numbers of `ropewalk rotation`."
        )
    rope = text.rope_parameters
    layers = {key: dict(value) for key, value in rope.items() if isinstance(value, Mapping)}
    return Checkpoint(
        name=name,
        model_type=text.model_type,
        nested=nested,
        layers=layers,
        original_beside=getattr(text, "original_max_position_embeddings", None) is not None,
        uneven=bool(getattr(text, "is_heterogeneous", False)),
    )


def _name(spec: ModelSpec, source: Source) -> str:
    if source.gguf is not None:
        return str(source.gguf.path)
    return source.location if source.is_local else spec.id


def read_raw(directory: Path) -> dict[str, Any]:
    """`config.json` as it stands. Raises ExportError where it is missing or no JSON object."""
    path = directory / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise ExportError(f"{path} cannot be read ({wrong}); give a whole model directory.") from wrong
    if not isinstance(raw, dict):
        raise ExportError(f"{path} holds no JSON object; give a whole model directory.")
    return raw


def patched_config(raw: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with an export's keys in place of its own; nested ones under `text_config`."""
    inner = {"text_config": {**raw.get("text_config", {}), **change["text_config"]}} if "text_config" in change else {}
    return {**raw, **change, **inner}
