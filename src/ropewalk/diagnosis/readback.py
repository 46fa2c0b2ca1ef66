"""A model in memory, on disk or in a GGUF file: what its rotary modules compute, against what was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ropewalk.diagnosis.hypothesis import AS_ASKED, Hypothesis
from ropewalk.diagnosis.ignored import ignored_keys
from ropewalk.diagnosis.library import library
from ropewalk.diagnosis.turning import Turning, by_rotation, turnings
from ropewalk.diagnosis.unloaded import unloaded
from ropewalk.errors import ModelError
from ropewalk.export.checkpoint import checkpoint_of
from ropewalk.export.request import Checkpoint, Request, request
from ropewalk.methods import inlined
from ropewalk.methods.none import shipped
from ropewalk.models import ModelSpec
from ropewalk.models.foreign import quiet, sentences
from ropewalk.models.geometry import geometry_of
from ropewalk.models.load import LoadedModel, read_config
from ropewalk.models.source import find
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Scheme

TOLERANCE = 1e-4
"""Relative, of frequencies and factors: float32 there and float64 here, as in models/as_shipped.py."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One kind of layers.

    Attributes:
        turning: what its module computes.
        modules: how many do.
        name: of the hypothesis that it is; None where it is none.
        says: what that means.
    """

    turning: Turning
    modules: int
    name: str | None
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """A model.

    Attributes:
        model: its name.
        asked: method and length in words.
        layers: what was read of each kind.
        ignored: keys of its config.json that nothing reads, with a sentence each.
    """

    model: str
    asked: str
    layers: tuple[Read, ...]
    ignored: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Every kind of layers runs what was asked for, and no key is ignored."""
        return all(each.name == AS_ASKED for each in self.layers) and not self.ignored

    @property
    def sentence(self) -> str:
        """What the first kind of layers that is not as asked does, or that all are."""
        wrong = next((each for each in self.layers if each.name != AS_ASKED), None)
        return f"{self.model} {(wrong or self.layers[0]).says} ({self.asked})."

    def lines(self) -> list[str]:
        """The sentence, a line per kind of layers, and what is ignored."""
        return [self.sentence, *(_line(each) for each in self.layers), *self.ignored]

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model": self.model,
            "asked": self.asked,
            "healthy": self.healthy,
            "sentence": self.sentence,
            "ignored": list(self.ignored),
            "layers": [_plain(each) for each in self.layers],
        }


def _line(each: Read) -> str:
    where = each.turning.module + (f" ({each.turning.layer_type})" if each.turning.layer_type else "")
    rotation = each.turning.rotation
    if rotation is None:
        return f"{where}: {each.turning.problem}"
    return (
        f"{where}: {each.name or 'none of the library'}; {rotation.inv_freq.size} pairs by "
        f"{rotation.inv_freq.max():.4g} to {rotation.inv_freq.min():.4g} rad/token, attention factor "
        f"{rotation.attention_factor:.6g}; {each.modules} such modules"
    )


def _plain(each: Read) -> dict[str, Any]:
    rotation = each.turning.rotation
    return {
        "module": each.turning.module,
        "layer_type": each.turning.layer_type,
        "modules": each.modules,
        "verdict": each.name,
        "problem": each.turning.problem or None,
        "inv_freq": None if rotation is None else rotation.inv_freq.tolist(),
        "attention_factor": None if rotation is None else rotation.attention_factor,
    }


def diagnose(
    model: Any, method: str = "none", *, length: int | None = None, config: Any = None, **params: Any
) -> ReadBack:
    """What the rotary modules of a model in memory compute, by calling them, against what was asked for.

    Args:
        model: a `LoadedModel`, or a torch module of any library that keeps its rotation in modules.
        method: that was asked for, with its parameters; `none` is what `config` says.
        length: tokens of the text that it is about; default twice what the configuration ships for.
        config: a transformers configuration; default the model's own.
        **params: of the method.

    Raises:
        ModelError: it has no configuration, or no rotary modules.
        MethodError: an unknown method or parameter.
    """
    module = model.model if isinstance(model, LoadedModel) else model
    config = config if config is not None else getattr(module, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        raise ModelError(f"{type(module).__name__} has no transformers configuration; give config=AutoConfig...")
    return _read(type(module).__name__, module, config, method, params, length)


def of_file(source: str, model: str | None, method: str, params: Mapping[str, Any], length: int | None) -> ReadBack:
    """The same for a directory, a Hub id or a GGUF file, without its weights; `model` is what a GGUF was made of.

    Raises:
        ModelError: it cannot be had, or has no rotary position embeddings.
    """
    spec = ModelSpec.parse(source)
    with quiet(), sentences(source):
        found = find(spec, weights=False)
        config = read_config(found, spec)
        if found.gguf is not None:
            return _gguf(source, config, model, method, params, length)
        config_file = Path(found.location) / "config.json"
        raw = json.loads(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {}
        return _read(source, unloaded(config), config, method, params, length, tuple(ignored_keys(raw)))


def _read(
    name: str,
    module: Any,
    config: Any,
    method: str,
    params: Mapping[str, Any],
    length: int | None,
    ignored: tuple[str, ...] = (),
) -> ReadBack:
    geometry, checkpoint = geometry_of(config), checkpoint_of(config)
    asked = _asked(geometry, checkpoint, method, params, length)
    found = list(by_rotation(turnings(module, asked.length)))
    if not found:
        raise ModelError(f"{name} has no rotary module that is known by its buffers, so nothing can be read back.")
    layers = tuple(_judged(asked, turning, count) for turning, count in found)
    return ReadBack(model=name, asked=_said(method, asked), layers=layers, ignored=ignored)


def _asked(
    geometry: RopeGeometry, checkpoint: Checkpoint, method: str, params: Mapping[str, Any], length: int | None
) -> Request:
    tokens = length if length is not None else 2 * geometry.max_position_embeddings
    return request(geometry, method, inlined(method, params), tokens, checkpoint)


def _said(method: str, asked: Request) -> str:
    what = f"as shipped, rope_type {asked.shipped_type}" if method == "none" else method
    return f"{what} at {asked.length} tokens"


def _judged(asked: Request, turning: Turning, modules: int) -> Read:
    """Name what a module does; layers that methods leave alone have to do what their own configuration says."""
    rotation = turning.rotation
    if rotation is None:
        return Read(turning=turning, modules=modules, name=None, says=f"{turning.problem}: it cannot be matched")
    other = turning.layer_type is not None and turning.layer_type != asked.geometry.layer_type
    known = (
        _other(asked, turning.layer_type, rotation)
        if other
        else [each for each in library(asked) if each.sliding is None]
    )
    for exact in (same, rounded):
        for each in known:
            if exact(rotation, each.scheme.rotation):
                late = (
                    "" if exact is same else " in frequencies rounded to bfloat16: load it with dtype=, not model.to()"
                )
                name = each.name if exact is same else f"{each.name}, rounded"
                return Read(turning=turning, modules=modules, name=name, says=each.says + late)
    says = f"turns {turning.layer_type or 'its layers'} by a rotation that is none of the {len(known)} hypotheses"
    return Read(turning=turning, modules=modules, name=None, says=says)


def _other(asked: Request, kind: str | None, found: Rotation) -> list[Hypothesis]:
    """What layers with a rotation of their own may do."""
    own = own_rotation(asked, kind, found.inv_freq.size)
    if own is None:
        return []
    first = Hypothesis(name=AS_ASKED, says="runs what was asked for", scheme=Scheme(rotation=own))
    also = [each for each in library(asked) if each.sliding is not None]
    return [first, *(replace(each, scheme=Scheme(rotation=each.sliding)) for each in also if each.sliding is not None)]


def own_rotation(asked: Request, kind: str | None, pairs: int) -> Rotation | None:
    """The rotation that layers which methods leave alone have, perhaps of other heads (Gemma 4)."""
    own = asked.checkpoint.layers.get(str(kind))
    if own is None:
        return None
    theta = float(own["rope_theta"])
    geometry = replace(asked.geometry, rotary_dim=2 * pairs, rope_theta=theta, rope_parameters=own, layer_type=kind)
    return shipped(geometry, asked.length)


def same(one: Rotation, other: Rotation) -> bool:
    """Two rotations that differ by float32 rounding at most."""
    return (
        one.inv_freq.shape == other.inv_freq.shape
        and bool(np.allclose(one.inv_freq, other.inv_freq, rtol=TOLERANCE, atol=1e-12))
        and bool(np.isclose(one.attention_factor, other.attention_factor, rtol=TOLERANCE))
    )


def rounded(one: Rotation, other: Rotation) -> bool:
    """The first is the second with frequencies in bfloat16, which have 8 bits."""
    return (
        one.inv_freq.shape == other.inv_freq.shape
        and bool(np.allclose(one.inv_freq, other.inv_freq, rtol=2.0**-8, atol=1e-12))
        and bool(np.isclose(one.attention_factor, other.attention_factor, rtol=TOLERANCE))
    )


def _gguf(
    source: str, config: Any, model: str | None, method: str, params: Mapping[str, Any], length: int | None
) -> ReadBack:
    """What a file ships, as llama.cpp reads it, against what was asked of the model that it was made of."""
    own = geometry_of(config)
    if model is None:
        geometry, checkpoint = own, Checkpoint(name=source)
    else:
        spec = ModelSpec.parse(model)
        original = read_config(find(spec, weights=False), spec)
        geometry, checkpoint = geometry_of(original), checkpoint_of(original, name=model)
    tokens = length if length is not None else own.max_position_embeddings
    asked = _asked(geometry, checkpoint, method, params, tokens)
    turning = Turning(module="GGUF", layer_type=None, rotation=shipped(own, asked.length))
    return ReadBack(model=source, asked=_said(method, asked), layers=(_judged(asked, turning, 1),))
