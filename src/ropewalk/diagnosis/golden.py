"""Golden rotations: what every decoder architecture of the installed transformers computes, as test data for engines.

Each number is the float64 value of the formula, and was compared with the stock rotary module, called at that length.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from ropewalk.diagnosis.readback import own_rotation, same
from ropewalk.diagnosis.turning import by_rotation, turnings
from ropewalk.diagnosis.unloaded import made
from ropewalk.errors import ExportError, RopewalkError
from ropewalk.export import hf
from ropewalk.export.checkpoint import checkpoint_of, patched_config
from ropewalk.export.request import Request, request
from ropewalk.models.foreign import quiet
from ropewalk.models.geometry import geometry_of
from ropewalk.rope import Rotation

CASES: Mapping[str, Mapping[str, Any]] = {"none": {}, "linear": {"factor": 4}, "yarn": {"factor": 4}}
"""Method -> parameters."""

INDEX = "index.json"
_DECODERS = ("ForCausalLM", "ForConditionalGeneration")
_FOREIGN = (
    *(AssertionError, AttributeError, ImportError, LookupError, RuntimeError, StrictDataclassError, TypeError),
    ValueError,
)
"""What transformers raises for a configuration that it cannot build, or a scaling that a class refuses."""


def architectures() -> Iterator[str]:
    """Classes of language models that transformers has a rotation for, by name."""
    names = {**MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, **MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES}
    for name in sorted(set(names.values())):
        kind = getattr(getattr(transformers, name, None), "config_class", None)
        if kind is not None and name.endswith(_DECODERS) and kind.model_type in names:
            text = kind.sub_configs.get("text_config") or kind
            if "rope_parameters" in inspect.signature(text).parameters:
                yield name


def golden(name: str) -> dict[str, Any]:
    """All that is known of one class with its default configuration, as JSON values; `left_out` says why not more."""
    kind, left_out = getattr(transformers, name).config_class, dict[str, str]()
    found: dict[str, Any] = {"class": name, "model_type": kind.model_type, "transformers": transformers.__version__}
    try:
        with quiet():
            config = kind()
            geometry = geometry_of(config)
            found |= _facts(config, geometry)
    except (RopewalkError, *_FOREIGN) as wrong:
        return found | {"left_out": {"none": _sentence(wrong)}}
    cases: dict[str, Any] = {}
    for method, params in CASES.items():
        try:
            with quiet():
                cases[method] = list(_case(config, method, params, found))
        except (RopewalkError, *_FOREIGN) as wrong:
            left_out[method] = _sentence(wrong)
    return found | {"cases": cases} | ({"left_out": left_out} if left_out else {})


def _facts(config: Any, geometry: Any) -> dict[str, Any]:
    text = config.get_text_config(decoder=True)
    window = geometry.window().length
    return {
        "window": window,
        "lengths": [window // 2, window, 4 * window],
        "rope_parameters": text.rope_parameters,
        "layer_types": sorted(set(getattr(text, "layer_types", None) or [])),
        "temperature": {key: getattr(text, key) for key in ("attn_scale", "floor_scale") if hasattr(text, key)}
        | {key: value for key, value in geometry.rope_parameters.items() if key == "llama_4_scaling_beta"},
    }


def _case(config: Any, method: str, params: Mapping[str, Any], facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per length and kind of layers.

    Raises:
        ExportError: the stock module computes something else.
    """
    geometry, checkpoint = geometry_of(config), checkpoint_of(config)
    rotary, scales = None, ()
    for length in facts["lengths"]:
        asked = request(geometry, method, params, length, checkpoint)
        if rotary is None:
            rotary, scales = made(config if method == "none" else _edited(config, asked))
        for turning, modules in by_rotation(turnings(rotary, length)):
            rotation = turning.rotation
            if rotation is None:
                raise ExportError(f"its module {turning.problem}")
            scaled = turning.layer_type in (None, geometry.layer_type)
            ours = asked.rotation if scaled else own_rotation(asked, turning.layer_type, rotation.inv_freq.size)
            if ours is None or not same(rotation, ours):
                raise ExportError(
                    f"its module {turning.module} computes another rotation for {method} at {length} tokens"
                )
            yield _row(length, turning.layer_type, ours) | {"modules": modules, "softmax_scales": list(scales)}


def _row(length: int, layer_type: str | None, rotation: Rotation) -> dict[str, Any]:
    return {
        "length": length,
        "layer_type": layer_type,
        "fingerprint": rotation.fingerprint,
        "attention_factor": rotation.attention_factor,
        "softmax_factor": rotation.softmax_factor,
        "inv_freq": rotation.inv_freq.tolist(),
    }


def _edited(config: Any, asked: Request) -> Any:
    """The configuration with what `ropewalk export --target hf` writes."""
    return type(config).from_dict(patched_config(config.to_dict(), hf.ENGINE.configure(asked).config))


def _sentence(wrong: BaseException) -> str:
    said = " ".join(str(wrong).split())[:200]
    if isinstance(wrong, RopewalkError):
        return said
    return f"transformers does not build its default configuration ({type(wrong).__name__}: {said})"


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The committed line of a class: fingerprint and factors by case, once where all lengths agree; no lists."""
    lines: dict[str, Any] = {}
    for method, rows in found.get("cases", {}).items():
        for kind in dict.fromkeys(row["layer_type"] for row in rows):
            own = [row for row in rows if row["layer_type"] == kind]
            prints = [row["fingerprint"] for row in own]
            factors = [round(row["attention_factor"], 9) for row in own]
            label = method if kind is None else f"{method} {kind}"
            lines[label] = [prints[0], factors[0]] if len(set(prints)) == 1 else [prints, factors]
    left = found.get("left_out")
    return {"window": found.get("window")} | lines | ({"left_out": left} if left else {})


def write(out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write a file per class into a new or empty directory, and the index last; yields each class when it is done.

    Raises:
        ExportError: the directory holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"--out {out}: is not empty; give a new directory.")
    out.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {}
    for name in architectures():
        found = golden(name)
        index[name] = summary(found)
        (out / f"{name}.json").write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")
        yield name, index[name]
    (out / INDEX).write_text(index_text(index), encoding="utf-8")


def index_text(index: Mapping[str, Any]) -> str:
    """The index as JSON, one class a line."""
    lines = [f"{json.dumps(name)}: {json.dumps(line)}" for name, line in index.items()]
    return f'{{"transformers": {json.dumps(transformers.__version__)},\n"classes": {{\n' + ",\n".join(lines) + "\n}}\n"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of a table of two versions' indices: class, case, what the old one has, what the new one has."""
    rows: list[tuple[str, str, str, str]] = []
    for name in sorted(set(old) | set(new)):
        if name not in old or name not in new:
            rows.append((name, "", "there" if name in old else "-", "there" if name in new else "-"))
            continue
        for case in sorted(set(old[name]) | set(new[name])):
            one, other = (json.dumps(each[name].get(case)) for each in (old, new))
            if one != other:
                rows.append((name, case, one, other))
    return rows
