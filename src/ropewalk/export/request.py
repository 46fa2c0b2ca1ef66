"""What is to be exported, and what comes out: the two values that every engine's file stands between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from ropewalk import methods
from ropewalk.errors import ExportError
from ropewalk.export.folding import Folding
from ropewalk.methods import Extension, Params, Scaled
from ropewalk.methods.none import shipped_varies
from ropewalk.methods.resolving import Resolved, with_numbers
from ropewalk.methods.tuned import Tuned
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Branch, Gains, Scheme, Temperature
from ropewalk.stats.measured import TRUNCATE

LONGEST = 2**31 - 1
"""Engines keep a context in 32 bits, signed."""

NOTHING: Mapping[str, Any] = MappingProxyType({})
WITH_CODE = "export it with --target hf --out DIR --with-code, which brings code that its reader must trust"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What an engine's configuration depends on beside the geometry.

    Attributes:
        name: as an engine's command line takes it: a Hub id, a directory or a file.
        model_type: of the text model, Hugging Face's word.
        nested: the text model's configuration sits under `text_config`.
        layers: rope_parameters of every layer type, where a model has several; empty where it has one.
        original_beside: `original_max_position_embeddings` stands beside rope_parameters and wins over it (Phi-3).
        uneven: kinds of layers differ in head_dim (Gemma 4).
        architecture: `general.architecture` of the GGUF file that is served, where one is named.
    """

    name: str = "MODEL"
    model_type: str = "llama"
    nested: bool = False
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: NOTHING, hash=False)
    original_beside: bool = False
    uneven: bool = False
    architecture: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One rotation to be put into an engine.

    Attributes:
        params: every number filled in (window, `factor: auto`).
        rotation: for this length.
        length: the context to be served, tokens.
        auto: the method has another rotation at another length.
        folding: gains of the query, which weights have to hold; None for none.
        branches: what tokens are told by their distance, for engines that take that; empty for the rotation alone.
        temperature: what multiplies the query, where code goes along that does it; None leaves what ships.
    """

    geometry: RopeGeometry
    method: str
    params: Params
    rotation: Rotation
    length: int
    auto: bool
    checkpoint: Checkpoint
    folding: Folding | None = field(default=None, hash=False, compare=False)
    branches: tuple[Branch, ...] = ()
    temperature: Temperature | None = None

    @property
    def scheme(self) -> Scheme:
        """What was measured."""
        gains = None if self.folding is None else Gains(log=self.folding.gains)
        return Scheme(rotation=self.rotation, gains=gains, branches=self.branches, temperature=self.temperature)

    @property
    def needs_code(self) -> bool:
        """No configuration of transformers says it."""
        return bool(self.branches) or self.temperature is not None

    @property
    def window(self) -> int:
        """L0 in tokens."""
        return self.params.window if isinstance(self.params, Extension) else self.geometry.window().length

    @property
    def shipped_type(self) -> str:
        return str(self.geometry.rope_parameters.get("rope_type") or "default")

    @property
    def stacked(self) -> bool:
        """On top of a scaling that the checkpoint ships."""
        on_top = isinstance(self.params, Extension) and self.params.compose == "stack"
        return on_top and self.shipped_type != "default"

    @property
    def unscaled(self) -> bool:
        """The rotation is f itself."""
        return self.rotation == Rotation(inv_freq=self.geometry.unscaled_inv_freq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """The configuration of one engine.

    Attributes:
        engine: its name.
        fidelity: `exact` to float32, or `approximated`; what is impossible is an ExportError.
        config: keys to change in config.json, or to override; empty where there is nothing to change.
        command: the command line; empty where the configuration itself is what is exported.
        notes: what this engine does differently, one sentence each.
    """

    engine: str
    fidelity: Literal["exact", "approximated"]
    config: Mapping[str, Any]
    command: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def request(
    geometry: RopeGeometry,
    method: str,
    params: Mapping[str, Any],
    length: int | None,
    checkpoint: Checkpoint,
    *,
    branches: bool = False,
    code: bool = False,
) -> Request:
    """Resolve a method for export; one with branches only for an engine that takes them, or with code that does.

    Raises:
        ExportError: `truncate`; no length for a method whose parameters name none, or one that no engine can hold.
        MethodError: an unknown method, or parameters that it cannot take.
    """
    if method == TRUNCATE:
        half = geometry.window().length // 2
        raise ExportError(
            "truncate: drops the context and is no rotation, so no engine has a setting for it; serve the model as it "
            f"ships and send only the last {half} tokens (window/2, as measured) of a longer prompt."
        )
    made = methods.make_params(method, params)
    if not (branches or code):
        _refuse_branches(geometry, method, made, length or geometry.window().length + 1)
    tokens = default_length(geometry, method, made) if length is None else length
    if tokens > LONGEST:
        raise ExportError(f"--length {tokens}: no engine holds a context beyond {LONGEST} tokens; give less.")
    resolved = methods.resolve(geometry, method, made, tokens)
    if resolved.scheme.branches and resolved.scheme.temperature is not None and not code:
        raise ExportError(
            f"{method}: has a temperature beside its branches, which no engine runs; leave temperature out, or "
            f"{WITH_CODE}."
        )
    if code and resolved.scheme.only_rotates:
        raise ExportError(f"--with-code: {method} only rotates, which a configuration says; leave --with-code out.")
    folding = _folding(resolved, made)
    alone = folding is None and not resolved.scheme.branches and not code
    return Request(
        geometry=geometry,
        method=method,
        params=with_numbers(geometry, made, tokens),
        rotation=resolved.rotation if alone else resolved.scheme.rotation,
        length=tokens,
        auto=methods.depends_on_length(geometry, method, made),
        checkpoint=checkpoint,
        folding=folding,
        branches=resolved.scheme.branches,
        temperature=resolved.scheme.temperature if code else None,
    )


def _refuse_branches(geometry: RopeGeometry, method: str, params: Params, length: int) -> None:
    if methods.resolve(geometry, method, params, length).scheme.branches:
        if isinstance(params, Tuned):
            raise ExportError(
                f"tuned: the file was tuned with near={params.file.near}, so its rotation and gains are for tokens at "
                "least so far away, and configurations and weights hold them for all distances alone; tune without "
                f"--near, or {WITH_CODE}."
            )
        raise ExportError(
            f"{method}: tells far tokens other positions than near ones, for which export knows no setting here; what "
            "comes nearest is a rotation for all distances, such as yarn or the one that `ropewalk tune` finds; to run "
            f"the scheme itself, {WITH_CODE}."
        )


def _folding(resolved: Resolved, params: Params) -> Folding | None:
    """The gains, where there is nothing else beside the rotation and it is known which dimensions they are of."""
    gains = resolved.scheme.gains
    if gains is None or not isinstance(params, Tuned):
        return None
    return Folding(gains=gains.log, pairs=np.array(params.file.pairs))


def default_length(geometry: RopeGeometry, method: str, params: Params) -> int:
    """factor x window, tokens; of `none` what the checkpoint says that it can do; of `tuned` what it was tuned for.

    Raises:
        ExportError: there is no number to take as factor.
    """
    if method == "none":
        return geometry.max_position_embeddings
    if isinstance(params, Tuned):
        return params.file.length
    if isinstance(params, Scaled) and not isinstance(params.factor, str):
        window = params.original_max_position_embeddings or geometry.window(params.compose).length
        return round(params.factor * window)
    open_ = "factor='auto' does not say" if isinstance(params, Scaled) else "has no factor that says"
    raise ExportError(f"{method}: {open_} for which length; give --length, in tokens.")


def common_notes(asked: Request) -> tuple[str, ...]:
    """What holds for every engine."""
    notes = []
    shipped = asked.geometry.max_position_embeddings
    if asked.method != "none" and asked.length < shipped:
        notes.append(
            f"Warning: {asked.length} tokens are fewer than the {shipped} that the checkpoint ships "
            f"(rope_type {asked.shipped_type}); to serve those, export none, or more with a greater factor or length."
        )
    if asked.auto and (asked.method != "none" or not shipped_varies(asked.geometry)):
        notes.append(
            f"{asked.method} rotates differently at every length; this is its rotation for {asked.length} tokens, "
            "used at all lengths."
        )
    if asked.geometry.layer_type is not None:
        notes.append(f"Only {asked.geometry.layer_type} layers are scaled; the others never look beyond their window.")
    return tuple(notes)
