"""No method: the rotation that the checkpoint ships, read from its Hugging Face configuration as transformers does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ropewalk.errors import MethodError, ModelError
from ropewalk.methods import dynamic_ntk, linear, llama3, longrope, ntk_aware, proportional, yarn
from ropewalk.methods.blend import softmax_factor
from ropewalk.methods.method import Method, Params
from ropewalk.methods.parameters import short
from ropewalk.methods.reading import read
from ropewalk.rope import RopeGeometry, Rotation

Shipped = Mapping[str, Any]
"""`rope_parameters` of a configuration, Hugging Face keys."""

ADVICE = "mend the model's config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing(Params):
    """`none` takes no parameters: what ships is what is measured, also under `window:`."""

    method: ClassVar[str] = "none"


def none(geometry: RopeGeometry, params: Nothing, length: int) -> Rotation:
    """The shipped rotation at this length."""
    return shipped(geometry, length)


def shipped(geometry: RopeGeometry, length: int) -> Rotation:
    """Resolve `geometry.rope_parameters` with the very functions that the methods use.

    Keys that transformers ignores or replaces are treated as it treats them; keys that it needs and does not find
    are refused, not defaulted.

    Raises:
        ModelError: a rope_type that ropewalk does not know, or parameters that it cannot take.
    """
    raw = geometry.rope_parameters
    rope_type = raw.get("rope_type") or raw.get("type") or "default"
    if rope_type == "default":
        return Rotation(inv_freq=geometry.unscaled_inv_freq)
    if not isinstance(rope_type, str) or rope_type not in ROPE_TYPES:
        known = ", ".join(["default", *ROPE_TYPES])
        raise ModelError(
            f"rope_parameters: rope_type={short(rope_type)} is none that ropewalk can resolve ({known}); "
            f"{ADVICE}, or choose another model."
        )
    entry, translate = ROPE_TYPES[rope_type]
    try:
        rotation = entry.function(geometry, read(entry, translate(geometry, raw)), length)
        assert isinstance(rotation, Rotation)
    except MethodError as wrong:
        complaint = str(wrong).rsplit(";", maxsplit=1)[0]  # its remedy speaks of an experiment, ours of a checkpoint
        raise ModelError(f"rope_parameters of rope_type {rope_type!r}: {complaint}; {ADVICE}.") from wrong
    _check_mscale(raw, rotation)
    return dataclasses.replace(rotation, softmax_factor=_softmax_factor(geometry, raw))


def shipped_varies(geometry: RopeGeometry) -> bool:
    """Whether the shipped rotation depends on the length: dynamic and longrope change beyond a window."""
    inside = shipped(geometry, 1)
    beyond = 2 * max(geometry.max_position_embeddings, _window(geometry, geometry.rope_parameters))
    return inside != shipped(geometry, beyond)


def varies(geometry: RopeGeometry, params: Nothing) -> bool:
    """As shipped."""
    return shipped_varies(geometry)


def _ntk_alpha(geometry: RopeGeometry, raw: Shipped) -> Shipped:
    """HunYuan's own: NTK-aware scaling by `alpha`, whatever `factor` says."""
    return {"factor": _needed(raw, "alpha")}


def _linear(geometry: RopeGeometry, raw: Shipped) -> Shipped:
    return {"factor": _needed(raw, "factor")}


def _dynamic(geometry: RopeGeometry, raw: Shipped) -> Shipped:
    """transformers takes max_position_embeddings as the window, whatever original_... says."""
    return {
        "factor": _needed(raw, "factor"),
        "original_max_position_embeddings": geometry.max_position_embeddings,
    }


def _yarn(geometry: RopeGeometry, raw: Shipped) -> Shipped:
    """transformers ignores mscale unless mscale_all_dim is there too, and `truncate` nested under a layer type."""
    both = bool(raw.get("mscale") and raw.get("mscale_all_dim"))
    return {
        "original_max_position_embeddings": _window(geometry, raw),
        "factor": _factor(geometry, raw),
        "beta_fast": raw.get("beta_fast") or 32,
        "beta_slow": raw.get("beta_slow") or 1,
        "attention_factor": _or_auto(raw.get("attention_factor")),
        "mscale": raw["mscale"] if both else None,
        "mscale_all_dim": raw["mscale_all_dim"] if both else None,
        "truncate": bool(raw.get("truncate", True)) or geometry.layer_type is not None,
    }


def _longrope(geometry: RopeGeometry, raw: Shipped) -> Shipped:
    """factor only makes A here, and transformers reads any up to 1 as no scaling."""
    factor = _factor(geometry, raw)
    return {
        "original_max_position_embeddings": _window(geometry, raw),
        "factor": 1 if isinstance(factor, (int, float)) and 0 < factor < 1 else factor,
        "long_factor": _needed(raw, "long_factor"),
        "short_factor": _needed(raw, "short_factor"),
        "attention_factor": _or_auto(raw.get("attention_factor")),
    }


def _llama3(geometry: RopeGeometry, raw: Shipped) -> Shipped:
    names = ("factor", "low_freq_factor", "high_freq_factor")
    return {name: _needed(raw, name) for name in names} | {"original_max_position_embeddings": _window(geometry, raw)}


def _proportional(geometry: RopeGeometry, raw: Shipped) -> Shipped:
    return {"factor": raw.get("factor", 1), "partial_rotary_factor": raw.get("partial_rotary_factor", 1)}


def _window(geometry: RopeGeometry, raw: Shipped) -> Any:
    """The configuration's original window, its rope_parameters', else the whole one; never the user's `window:`."""
    own = geometry.original_max_position_embeddings
    written = raw.get("original_max_position_embeddings") if own is None else own
    return geometry.max_position_embeddings if written is None else written


def _factor(geometry: RopeGeometry, raw: Shipped) -> Any:
    """As written, or the ratio of the two windows where a configuration leaves it out (Phi-3, DeepSeek-V3)."""
    factor, window = raw.get("factor"), _window(geometry, raw)
    if factor is not None or not isinstance(window, int) or window < 1:
        return factor
    return geometry.max_position_embeddings / window


def _needed(raw: Shipped, name: str) -> Any:
    if raw.get(name) is None:
        raise MethodError(f"{name} is missing; give it.")
    return raw[name]


def _or_auto(attention_factor: Any) -> Any:
    return "auto" if attention_factor is None else attention_factor


def _softmax_factor(geometry: RopeGeometry, raw: Shipped) -> float:
    """Attention reads mscale_all_dim beside any rope_type but `default`, and without mscale."""
    factor = raw.get("factor")
    return 1.0 if factor is None else softmax_factor(geometry, max(1.0, factor), raw.get("mscale_all_dim"))


def _check_mscale(raw: Shipped, rotation: Rotation) -> None:
    """short_mscale and long_mscale replace A in some readers (vLLM, SGLang, PhiMoE) and are ignored by others."""
    for name in ("short_mscale", "long_mscale"):
        mscale = raw.get(name)
        if mscale is not None and not math.isclose(mscale, rotation.attention_factor, rel_tol=1e-6):
            raise ModelError(
                f"rope_parameters: {name}={mscale} contradicts attention_factor {rotation.attention_factor:.6g}, "
                f"and engines differ in which one they read; {ADVICE} so that both are the same number."
            )


ROPE_TYPES: dict[str, tuple[Method, Callable[[RopeGeometry, Shipped], Shipped]]] = {
    "linear": (linear.METHOD, _linear),
    "dynamic": (dynamic_ntk.METHOD, _dynamic),
    "ntk_alpha": (ntk_aware.METHOD, _ntk_alpha),
    "yarn": (yarn.METHOD, _yarn),
    "longrope": (longrope.METHOD, _longrope),
    "llama3": (llama3.METHOD, _llama3),
    "proportional": (proportional.METHOD, _proportional),
}
"""rope_type -> our method, and how its configuration reads in our parameters."""

METHOD = Method(
    name="none",
    params=Nothing,
    function=none,
    paper="RoPE: Su et al. 2021, arXiv:2104.09864",
    summary="The baseline of every run: the model as it ships, with the scaling of its own configuration.",
    formula="lambda_i and A as shipped",
    hugging_face="as shipped",
    varies=varies,
)
