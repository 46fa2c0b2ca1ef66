"""A rotation in Hugging Face's `rope_parameters`: by name where there is one, else in the universal longrope form."""

from __future__ import annotations

from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export.beside import CARRIED, ORIGINAL, original, query_window, softmax_mscale
from ropewalk.export.request import Request
from ropewalk.methods import depends_on_length, find, resolve

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
    elif asked.stacked:
        return None
    else:
        rope = own(asked)
    if rope is None or query_window(asked) not in (None, rope.get(ORIGINAL)):
        return None
    refused = NO_DEFAULT if rope["rope_type"] == "default" else LONGROPE_ONLY
    return None if asked.checkpoint.model_type in refused else rope


def own(asked: Request) -> Rope | None:
    """What the method itself says, whatever the checkpoint ships and the model takes; None where it has no name."""
    form = find(asked.method).hf
    keys = None if form is None else form(asked.geometry, asked.params, asked.length)
    return None if keys is None else plain(asked, keys["rope_type"]) | keys


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
    """One rotation up to the window and another beyond it are asked for, and differ."""
    return (
        _remedy(asked) is not None
        and not asked.stacked
        and depends_on_length(asked.geometry, asked.method, asked.params)
    )


def _remedy(asked: Request) -> str | None:
    """What to ask for instead of two windows, where they are asked for."""
    return find(asked.method).two_windows(asked.params)


def refuse_two_windows(asked: Request, engine: str, reason: str) -> None:
    """Raises ExportError where two windows are asked for, and the context to serve reaches into the second."""
    if two_windows(asked) and asked.length > asked.window:
        raise ExportError(
            f"{engine}: {asked.method} with one rotation up to {asked.window} tokens and another beyond: {reason}; "
            f"the nearest that can is --target hf, or the long rotation at all lengths ({_remedy(asked)})."
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
