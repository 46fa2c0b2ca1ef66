"""RoPE context-extension methods: pure functions from (geometry, parameters, length) to one static rotation.

A new method is one file beside this one, one line of METHODS, and one row of tests/methods/method_table.py;
another package registers one by an entry point of the group `ropewalk.methods` that loads to a Method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ropewalk.errors import MethodError, short
from ropewalk.methods import (
    abf,
    bifocal,
    cope,
    dca,
    dynamic_ntk,
    jet_long,
    leaky_rerope,
    linear,
    llama3,
    longrope,
    mrrope,
    none,
    ntk_aware,
    ntk_by_parts,
    ntk_fixed,
    ntk_mixed,
    pasted,
    proportional,
    reading,
    rerope,
    resolving,
    resonance,
    searched,
    self_extend,
    streaming,
    string,
    truncate,
    tuned,
    yarn,
)
from ropewalk.methods.method import Extension, Method, Params, Scaled
from ropewalk.methods.resolving import Resolved
from ropewalk.plugins import plugged_in
from ropewalk.rope import RopeGeometry

__all__ = [
    "METHODS",
    "Extension",
    "Method",
    "Params",
    "Resolved",
    "Scaled",
    "asked",
    "depends_on_length",
    "describe",
    "expand",
    "find",
    "inline",
    "inlined",
    "make_params",
    "pasted_scaling",
    "registered",
    "resolve",
]

GROUP = "ropewalk.methods"

METHODS: dict[str, Method] = {
    "none": none.METHOD,
    "linear": linear.METHOD,
    "ntk_aware": ntk_aware.METHOD,
    "ntk_by_parts": ntk_by_parts.METHOD,
    "dynamic_ntk": dynamic_ntk.METHOD,
    "yarn": yarn.METHOD,
    "llama3": llama3.METHOD,
    "longrope": longrope.METHOD,
    "abf": abf.METHOD,
    "mrrope": mrrope.METHOD,
    "proportional": proportional.METHOD,
    "searched": searched.METHOD,
    "tuned": tuned.METHOD,
    "truncate": truncate.METHOD,
    "rerope": rerope.METHOD,
    "leaky_rerope": leaky_rerope.METHOD,
    "self_extend": self_extend.METHOD,
    "dca": dca.METHOD,
    "string": string.METHOD,
    "jet_long": jet_long.METHOD,
    "bifocal": bifocal.METHOD,
    "streaming": streaming.METHOD,
    "cope": cope.METHOD,
    "ntk_fixed": ntk_fixed.METHOD,
    "ntk_mixed": ntk_mixed.METHOD,
    "resonance": resonance.METHOD,
}

OTHER_NAMES = {
    "default": ("none",),
    "dynamic": ("dynamic_ntk",),
    "ntk": ("ntk_aware",),
    "pi": ("linear",),
    "rope_theta": ("abf",),
}
"""What other tools call our methods, where spelling alone might not find them."""

INEXPRESSIBLE = {
    "infllm": "looks up far tokens by what they hold (arXiv:2402.04617), and attention here goes by distance alone",
    "gali": "interpolates the logits of attention (arXiv:2502.02659), and here positions alone differ",
    "dpe": "tells each group of dimensions positions of its own, for dimensions picked by the largest norms on a model "
    "(arXiv:2504.18857), and here all of a branch stand at one",
    "drope": "takes the rotation out and trains again (arXiv:2512.12167), and nothing is trained here",
}
"""What is known by name and no scheme can say: why not."""


def registered() -> Mapping[str, Method]:
    """The built-in methods and those of installed packages, by name. Raises MethodError for a broken package."""
    return METHODS | plugged_in(GROUP, Method, METHODS, MethodError)


def find(method: str) -> Method:
    """The method of that name. Raises MethodError with the nearest valid name."""
    if method in METHODS:
        return METHODS[method]
    known = registered()
    if method not in known and (why := INEXPRESSIBLE.get(method.lower())) is not None:
        raise MethodError(f"there is no method {short(method)}: it {why}; self_extend and dca come nearest.")
    if method not in known:
        close = reading.did_you_mean(method, known, OTHER_NAMES)
        raise MethodError(f"there is no method {short(method)}{close} (all: {', '.join(known)}).")
    return known[method]


def pasted_scaling(raw: object) -> str | None:
    """What a `rope_scaling` block of a Hugging Face configuration is as a method: a sentence, or None for no block.

    It may stand alone, under one of its usual names, or under the name of a method.
    """
    inner = raw.values() if isinstance(raw, Mapping) else ()
    for block in (raw, *inner):
        meant = pasted.translated(block, METHODS.values())
        if meant is not None:
            return f"this is a rope_scaling block of a Hugging Face configuration; write methods: {{{meant}}}"
    return None


def make_params(method: str, raw: Mapping[str, object]) -> Params:
    """Parameters from values as YAML or JSON give them; integers become floats where the parameter is a number.

    Raises:
        MethodError: unknown method or parameter (naming the nearest valid one), a value out of range, one missing.
    """
    return reading.read(find(method), raw)


def expand(method: str, raw: Mapping[str, object]) -> tuple[Params, ...]:
    """Every combination of a grid in written order, without duplicates; the first name written varies slowest.

    A scalar is one value, a list is an axis; for long_factor and short_factor a flat list is one value and a list
    of lists an axis.

    Raises:
        MethodError: as make_params; also an empty list.
    """
    return reading.expand(find(method), raw)


def inline(method: str, raw: object) -> object:
    """A grid as an experiment file writes it, with the content of files in place of their paths, so that what is
    recorded needs no file and a file that changed is another experiment. An unknown method is left as it is.

    Raises:
        MethodError: a file that cannot be read.
    """
    return reading.inline(registered()[method], raw) if method in registered() else raw


def inlined(method: str, raw: Mapping[str, object]) -> dict[str, object]:
    """Parameters as a user gives them, with the content of files in place of their paths.

    Raises:
        MethodError: an unknown method, or a file that cannot be read.
    """
    return reading.inlined(find(method), raw)


def asked(params: Params) -> dict[str, Any]:
    """JSON values of what differs from its default, in a stable order: make_params(method, asked(p)) == p."""
    return reading.plain(params)


def describe(method: str) -> dict[str, Any]:
    """A method as JSON values: summary, formula, paper, Hugging Face name, parameters with range, default, doc."""
    return reading.describe(find(method))


def depends_on_length(geometry: RopeGeometry, method: str, params: Params) -> bool:
    """Whether resolve() gives different rotations at different lengths, so that one pass cannot serve them all.

    True also where that happens only beyond the window.

    Raises:
        MethodError: parameters that do not fit the method or the geometry.
    """
    return resolving.method_depends_on_length(find(method), geometry, params)


def resolve(geometry: RopeGeometry, method: str, params: Params, length: int) -> Resolved:
    """One static rotation for one length (tokens).

    Fills in the window (`original_max_position_embeddings`, else `geometry.window(compose)`) and `factor: auto`
    = max(1, length/L0), calls the method on the unscaled geometry, then composes: `stack` multiplies lambda and A
    with those of the shipped rotation.

    Raises:
        MethodError: parameters that do not fit the method or the geometry; a length below 1.
        ModelError: shipped rope_parameters that cannot be resolved (`none`, and `stack`).
    """
    return resolving.resolve_method(find(method), geometry, params, length)
