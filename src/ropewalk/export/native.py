"""What llama.cpp has of its own: linear, yarn, and another base; and what else a GGUF file can hold.

From a reading of llama.cpp of October 2026 (the copy in llama-cpp-python 0.3.36), and run there: docs/engines.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ropewalk.errors import ExportError
from ropewalk.export.beside import original
from ropewalk.export.forms import Rope, own, refuse_two_windows
from ropewalk.export.request import Request
from ropewalk.methods.blend import temperature

FREQS = ("rope_freqs.weight",)
LISTS = ("rope_factors_long.weight", "rope_factors_short.weight")
DIVISORS: Mapping[str, tuple[str, ...]] = {
    "llama": FREQS,
    "exaone": FREQS,
    "granite": FREQS,
    "arcee": FREQS,
    "apertus": FREQS,
    "phi3": LISTS,
}
"""general.architecture -> the tensors by which llama.cpp divides each frequency; others read none."""

USUAL_BETAS = (32.0, 1.0)
"""beta_fast and beta_slow of every file: llama.cpp reads others out of Grok's and Mistral 3's metadata alone."""

SCALED_LAYERS = frozenset({"gemma3", "gemma3_text"})
"""Models with several kinds of layers whose sliding ones llama.cpp leaves alone, whatever the flags."""


OLLAMA = (
    "Ollama takes no rope parameters in a Modelfile, only num_ctx: give it a rewritten GGUF (--gguf IN --out {file}) "
    "with the Modelfile lines `FROM ./{file}` and `PARAMETER num_ctx {length}`."
)

Flags = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """One rotation in llama.cpp's own words.

    Attributes:
        scaling: none, linear or yarn.
        rope_theta: the base, rad.
        factor: s of linear and yarn.
        betas: beta_fast and beta_slow of yarn, turns.
        attn_factor: multiplies cos and sin beside yarn's own 0.1 ln s + 1.
    """

    scaling: str
    rope_theta: float
    factor: float = 1.0
    betas: tuple[float, float] | None = None
    attn_factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a rewritten file has in place of every rope key and rope tensor of the old one.

    Attributes:
        metadata: below `<architecture>.`; int goes out as uint32, float as float32.
        tensors: name -> lambda, `[rotary_dim/2]`.
    """

    metadata: Mapping[str, str | int | float]
    tensors: Mapping[str, list[float]]


def served(file: str, length: int) -> Flags:
    """The command for a file whose rotation is its own."""
    return "llama-server", "-m", file, "--ctx-size", str(length)


def native(asked: Request) -> Native | None:
    """The method alone, without what a checkpoint ships below it; None where llama.cpp has no such thing."""
    rope, base = own(asked), asked.geometry.rope_theta
    kind = None if rope is None else rope["rope_type"]
    if rope is not None and kind == "linear":
        return Native(scaling="linear", rope_theta=base, factor=rope["factor"])
    if rope is not None and kind == "default":
        return Native(scaling="none", rope_theta=rope["rope_theta"])
    if rope is not None and kind == "yarn" and rope["truncate"]:
        return _yarn(asked, rope)
    return Native(scaling="none", rope_theta=base) if asked.unscaled else None


def _yarn(asked: Request, rope: Rope) -> Native:
    """llama.cpp's own A is 0.1 ln s + 1; what is another A multiplies it."""
    usual, factor = temperature(rope["factor"]), asked.rotation.attention_factor
    return Native(
        scaling="yarn",
        rope_theta=asked.geometry.rope_theta,
        factor=rope["factor"],
        betas=(rope["beta_fast"], rope["beta_slow"]),
        attn_factor=1.0 if math.isclose(factor, usual, rel_tol=1e-9) else factor / usual,
    )


def spares_layers(asked: Request) -> bool:
    """llama.cpp gives Gemma 3's sliding layers a base and scale of their own; attn_factor it gives to all."""
    own = native(asked)
    return asked.checkpoint.model_type in SCALED_LAYERS and (own is None or own.attn_factor == 1.0)


def change(asked: Request, architecture: str) -> Change:
    """The rewritten file: metadata where llama.cpp has the method, else lambda as a tensor.

    Raises:
        ExportError: neither fits the architecture, or it takes one rotation alone.
    """
    refuse_two_windows(asked, "llama.cpp", "it chooses the list by the context that it is started with")
    own = None if asked.stacked else native(asked)
    layered = asked.geometry.layer_type is not None
    if own is not None and own.betas in (None, USUAL_BETAS) and (not layered or spares_layers(asked)):
        return Change(metadata={"context_length": asked.length, **_metadata(asked, own)}, tensors={})
    if layered or architecture not in DIVISORS:
        raise ExportError(
            f"llama.cpp: reads no divisors of frequencies for {architecture}, and {asked.method} needs them; the "
            "nearest that fits is yarn with its defaults, linear, or another base (ntk_aware, abf)."
        )
    plain = Native(scaling="none", rope_theta=asked.geometry.rope_theta, attn_factor=asked.rotation.attention_factor)
    return Change(
        metadata={"context_length": asked.length, **_metadata(asked, plain)},
        tensors={name: asked.rotation.divisors(asked.geometry) for name in DIVISORS[architecture]},
    )


def _metadata(asked: Request, own: Native) -> dict[str, Any]:
    """Keys below the architecture. A file with divisors and type none keeps the window for its own record.

    Raises:
        ExportError: yarn's window is not the one that the model's query temperature counts from, under the same key.
    """
    rope: dict[str, Any] = {"rope.freq_base": own.rope_theta, "rope.scaling.type": own.scaling}
    rope["rope.scaling.original_context_length"] = original(asked)
    if own.scaling == "yarn" and original(asked) != asked.window:
        raise ExportError(
            f"llama.cpp: the file's query temperature counts from {original(asked)} tokens under the key that "
            f"{asked.method} needs for its window of {asked.window}; leave original_max_position_embeddings out."
        )
    if own.scaling != "none":
        rope["rope.scaling.factor"] = own.factor
    if own.attn_factor != 1.0:
        rope["rope.scaling.attn_factor"] = own.attn_factor
    return rope
