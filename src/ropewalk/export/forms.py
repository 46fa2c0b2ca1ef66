"""A rotation in Hugging Face's `rope_parameters`: by name where there is one, else in the universal longrope form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export.beside import CARRIED, ORIGINAL, original, query_window, softmax_mscale
from ropewalk.export.request import Request
from ropewalk.methods import depends_on_length, resolve
from ropewalk.methods.abf import Abf
from ropewalk.methods.blend import temperature
from ropewalk.methods.dynamic_ntk import DynamicNtk
from ropewalk.methods.linear import Linear
from ropewalk.methods.llama3 import Llama3
from ropewalk.methods.longrope import LongRope
from ropewalk.methods.ntk_aware import NtkAware
from ropewalk.methods.ntk_by_parts import NtkByParts
from ropewalk.methods.proportional import Proportional
from ropewalk.methods.searched import Searched
from ropewalk.methods.yarn import Yarn

Rope = dict[str, Any]
"""`rope_parameters` of one kind of layers, Hugging Face keys."""

LONGROPE_ONLY = frozenset({"phi3", "phi4_multimodal", "phimoe"})
"""Models whose configuration takes `default` and `longrope` alone; transformers turns yarn into longrope there."""

NO_DEFAULT = frozenset({"mistral4"})
"""Models whose `default` ignores partial_rotary_factor in transformers, and fails on cos and sin of twice the size."""


def named(asked: Request) -> Rope | None:
    """The rotation under the name that transformers has for it.

    None where there is none, where the model takes no such name, or where the name needs another window than the query
    temperature has.
    """
    if asked.unscaled and softmax_mscale(asked) == 1.0:
        rope: Rope | None = based(asked, asked.geometry.rope_theta)
    elif asked.stacked or asked.method not in NAMED:
        return None
    else:
        rope = NAMED[asked.method](asked)
    if rope is None or query_window(asked) not in (None, rope.get(ORIGINAL)):
        return None
    refused = NO_DEFAULT if rope["rope_type"] == "default" else LONGROPE_ONLY
    return None if asked.checkpoint.model_type in refused else rope


def universal(asked: Request) -> Rope:
    """Any (lambda, A): longrope with the same list inside and beyond the window, so that nothing ever switches.

    Two lists where two windows are asked for. transformers reads A from attention_factor, vLLM and SGLang from
    short_mscale and long_mscale.
    """
    short, long = asked.rotation, asked.rotation
    if two_windows(asked):
        if original(asked) != asked.window:
            raise ExportError(
                f"{asked.method} with one rotation up to {asked.window} tokens and another beyond: the model's query "
                f"temperature counts from {original(asked)} under the same key, {ORIGINAL}; leave the method's out."
            )
        short, long = (
            resolve(asked.geometry, asked.method, asked.params, tokens).rotation
            for tokens in (asked.window, asked.window + 1)
        )
    factor = asked.rotation.attention_factor
    return plain(asked, "longrope") | {
        "factor": max(1.0, asked.length / asked.window),
        ORIGINAL: original(asked),
        "short_factor": short.divisors(asked.geometry),
        "long_factor": long.divisors(asked.geometry),
        "attention_factor": factor,
        "short_mscale": factor,
        "long_mscale": factor,
    }


def two_windows(asked: Request) -> bool:
    """One rotation up to the window and another beyond it are asked for: by `windows: two`, or by a short list."""
    params = asked.params
    named = params.windows == "two" if isinstance(params, Searched) else False
    listed = params.short_factor is not None if isinstance(params, LongRope) else False
    return (named or listed) and not asked.stacked and depends_on_length(asked.geometry, asked.method, params)


def refuse_two_windows(asked: Request, engine: str, reason: str) -> None:
    """Raises ExportError where two windows are asked for, and the context to serve reaches into the second."""
    if two_windows(asked) and asked.length > asked.window:
        one = "windows=one" if asked.method == "searched" else "equal lists, or without short_factor"
        raise ExportError(
            f"{engine}: {asked.method} with one rotation up to {asked.window} tokens and another beyond: {reason}; "
            f"the nearest that can is --target hf, or the long rotation at all lengths ({one})."
        )


def stands_still(asked: Request) -> bool:
    """Some pairs carry no position."""
    return bool((asked.rotation.inv_freq == 0).any())


def plain(asked: Request, rope_type: str) -> Rope:
    """What every form has: its type, the unscaled base, and the layout of the heads."""
    shipped = asked.geometry.rope_parameters
    own = asked.shipped_type == "proportional"  # its partial_rotary_factor is part of the scaling
    kept = {key: shipped[key] for key in CARRIED if key in shipped and not (own and key == "partial_rotary_factor")}
    window = query_window(asked)
    counted: Rope = {} if window is None else {ORIGINAL: window}
    return {"rope_type": rope_type, "rope_theta": asked.geometry.rope_theta} | kept | counted


def based(asked: Request, rope_theta: float) -> Rope:
    """No scaling over another base."""
    return plain(asked, "default") | {"rope_theta": rope_theta}


def larger_base(asked: Request, alpha: float) -> Rope:
    """theta' = b alpha^(d/(d-2))."""
    d = asked.geometry.rotary_dim
    return based(asked, asked.geometry.rope_theta * alpha ** (d / (d - 2)))


def _linear(asked: Request) -> Rope:
    assert isinstance(asked.params, Linear)
    return plain(asked, "linear") | {"factor": asked.params.s}


def _ntk_aware(asked: Request) -> Rope:
    assert isinstance(asked.params, NtkAware)
    return larger_base(asked, asked.params.s)


def _dynamic_ntk(asked: Request) -> Rope:
    assert isinstance(asked.params, DynamicNtk)
    return larger_base(asked, 1.0 + asked.params.s * (max(asked.length, asked.window) / asked.window - 1.0))


def _abf(asked: Request) -> Rope:
    assert isinstance(asked.params, Abf)
    return based(asked, asked.params.rope_theta)


def _ntk_by_parts(asked: Request) -> Rope:
    assert isinstance(asked.params, NtkByParts)
    return _by_parts(asked, asked.params.s, asked.params.alpha, asked.params.beta)


def _llama3(asked: Request) -> Rope:
    assert isinstance(asked.params, Llama3)
    return _by_parts(asked, asked.params.s, asked.params.low_freq_factor, asked.params.high_freq_factor)


def _by_parts(asked: Request, s: float, low: float, high: float) -> Rope:
    return plain(asked, "llama3") | {
        "factor": s,
        "low_freq_factor": low,
        "high_freq_factor": high,
        ORIGINAL: asked.window,
    }


def _yarn(asked: Request) -> Rope | None:
    """A and truncate are always written out. None with a ramp in turns, and with bounds that are not rounded in models
    with several kinds of layers: transformers reads truncate beside those, and not among them."""
    params = asked.params
    assert isinstance(params, Yarn)
    if params.ramp != "index" or not (params.truncate or asked.geometry.layer_type is None):
        return None
    return plain(asked, "yarn") | {
        "factor": params.s,
        ORIGINAL: asked.window,
        "beta_fast": params.beta_fast,
        "beta_slow": params.beta_slow,
        "attention_factor": asked.rotation.attention_factor,
        "truncate": params.truncate,
    }


def _proportional(asked: Request) -> Rope | None:
    """None for heads that are rotated in part: transformers takes the whole head here."""
    assert isinstance(asked.params, Proportional)
    rope = plain(asked, "proportional")
    if rope.get("partial_rotary_factor", 1) != 1:
        return None
    return rope | {"factor": asked.params.s, "partial_rotary_factor": asked.params.partial_rotary_factor}


def usual_temperature(asked: Request) -> bool:
    """A is 0.1 ln s + 1, what every engine takes when nothing is said."""
    assert isinstance(asked.params, Yarn)
    return math.isclose(asked.rotation.attention_factor, temperature(asked.params.s), rel_tol=1e-9)


NAMED: dict[str, Callable[[Request], Rope | None]] = {
    "linear": _linear,
    "ntk_aware": _ntk_aware,
    "ntk_by_parts": _ntk_by_parts,
    "dynamic_ntk": _dynamic_ntk,
    "yarn": _yarn,
    "llama3": _llama3,
    "abf": _abf,
    "proportional": _proportional,
}
"""Method -> its form; a method that is not here goes out in the universal one."""
