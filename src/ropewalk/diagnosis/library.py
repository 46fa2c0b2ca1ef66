"""The library of hypotheses: from what was asked for to everything that has been seen to run in its place. Pure.

A fault is one function below and one line of FAULTS.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ropewalk.diagnosis.hypothesis import AS_ASKED, Feed, Hypothesis
from ropewalk.errors import MethodError
from ropewalk.export.request import Request
from ropewalk.methods import find
from ropewalk.methods.method import Method, Params, parameters
from ropewalk.methods.none import ROPE_TYPES, shipped
from ropewalk.methods.reading import read
from ropewalk.methods.resolving import stacked, with_numbers
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Scheme

TEMPERATURE = "llama_4_scaling_beta"
FALLBACK_THETA = 10000.0
"""The base that readers take where they find none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What was asked for, and the scaling in it.

    Attributes:
        geometry: of the layers that methods apply to.
        rotation: asked for.
        length: tokens.
        entry, params: the scaling as a method with all numbers filled in, also of one that ships; None without any.
        other_layers: the geometry of layers that see a window only; None where there are none.
        bos: the tokenizer has one, and the text begins with it; None: it has none.
        given: tokens that the server kept, where they are not all.
    """

    geometry: RopeGeometry
    rotation: Rotation
    length: int
    entry: Method | None
    params: Any
    other_layers: RopeGeometry | None = None
    bos: bool | None = None
    given: int | None = None

    def variant(
        self, geometry: RopeGeometry | None = None, length: int | None = None, **changes: Any
    ) -> Rotation | None:
        """The same scaling with other parameters, over another geometry or at another length; None where there is no
        such rotation (no ramp in so short a window)."""
        if self.entry is None:
            return None
        try:
            params = dataclasses.replace(self.params, **changes)
            made = self.entry.function(geometry or self.geometry, params, length or self.length)
            return made if isinstance(made, Rotation) else None
        except MethodError:
            return None

    def has(self, name: str) -> bool:
        """The scaling has a parameter of that name."""
        return self.entry is not None and name in parameters(self.entry.params)


Found = Iterator[Hypothesis | None]
"""Hypotheses, and None for those that cannot be."""


def library(asked: Request, *, bos: bool | None = None, given: int | None = None) -> tuple[Hypothesis, ...]:
    """Every hypothesis, what was asked for first; those that are one and the same here under the first one's name.

    Args:
        asked: geometry, method and length.
        bos: whether the text begins with a BOS; None where the tokenizer has none.
        given: how many tokens the server kept, where it answered for fewer than it was sent.
    """
    case = dataclasses.replace(case_of(asked, bos), given=given)
    found: dict[object, Hypothesis] = {}
    first = Hypothesis(name=AS_ASKED, says="runs what was asked for", scheme=Scheme(rotation=asked.rotation))
    for each in (first, *(hypothesis for fault in FAULTS for hypothesis in fault(case))):
        if each is not None:
            known = found.get(each.key)
            found[each.key] = each if known is None else dataclasses.replace(known, also=(*known.also, each.name))
    return tuple(found.values())


def case_of(asked: Request, bos: bool | None) -> Case:
    """The scaling in a request: its method's, or for `none` the shipped one's."""
    entry, params = _scaling(asked.geometry, asked.method, asked.params, asked.length)
    return Case(
        geometry=asked.geometry,
        rotation=asked.rotation,
        length=asked.length,
        entry=entry,
        params=params,
        other_layers=_other_layers(asked),
        bos=bos,
    )


def _scaling(geometry: RopeGeometry, method: str, params: Params, length: int) -> tuple[Method | None, Any]:
    if method != "none":
        return find(method), with_numbers(geometry, params, length)
    rope_type = str(geometry.rope_parameters.get("rope_type") or "default")
    if rope_type not in ROPE_TYPES:
        return None, None
    entry, translate = ROPE_TYPES[rope_type]
    return entry, with_numbers(geometry, read(entry, translate(geometry, geometry.rope_parameters)), length)


def _other_layers(asked: Request) -> RopeGeometry | None:
    """Of the first kind of layers that methods leave alone, where its heads are as wide."""
    kinds = [kind for kind in asked.checkpoint.layers if kind != asked.geometry.layer_type]
    if not kinds or asked.checkpoint.uneven or asked.geometry.layer_type is None:
        return None
    rope = asked.checkpoint.layers[kinds[0]]
    return dataclasses.replace(
        asked.geometry, rope_theta=float(rope["rope_theta"]), rope_parameters=rope, layer_type=kinds[0]
    )


def _turned(name: str, rotation: Rotation | None, says: str) -> Hypothesis | None:
    return None if rotation is None else Hypothesis(name=name, says=says, scheme=Scheme(rotation=rotation))


def _unscaled(case: Case) -> Found:
    says = "runs unscaled: its rope keys did not reach the model; set them where this engine reads them"
    yield _turned("unscaled", Rotation(inv_freq=case.geometry.unscaled_inv_freq), says)


def _shipped(case: Case) -> Found:
    own = shipped(case.geometry, case.length)
    says = "runs what the checkpoint ships: the override was not read; give it where this engine reads it"
    yield _turned("as shipped", own, says)
    if own == case.rotation:
        return
    says = "stacks what was asked for on what the checkpoint ships: replace the shipped scaling, or ask for less"
    yield _turned("stacked on shipped", stacked(case.geometry, case.rotation, case.length), says)


def _theta(case: Case) -> Found:
    fallen, own = dataclasses.replace(case.geometry, rope_theta=FALLBACK_THETA), case.geometry.rope_theta
    says = f"runs rope_theta {FALLBACK_THETA:g} in place of {own:g}: write rope_theta where this engine reads it"
    yield _turned("theta fallen back", case.variant(fallen), says)
    bare = Rotation(inv_freq=fallen.unscaled_inv_freq)
    yield _turned("theta fallen back, unscaled", bare, f"{says}, and so the scaling")


def _factor(case: Case) -> Found:
    plain = case.geometry.unscaled_inv_freq
    says = "has the attention factor, but unscaled frequencies: write factor under the name that it reads"
    yield _turned("factor missing", dataclasses.replace(case.rotation, inv_freq=plain), says)
    says = "applies the scaling twice (flags on a file that holds it, or two keys that both count): leave one out"
    twice = case.rotation.inv_freq * (case.rotation.inv_freq / plain)
    factor = case.rotation.attention_factor**2
    yield _turned("applied twice", Rotation(inv_freq=twice, attention_factor=factor), says)
    if not case.has("factor"):
        return
    s, ratio = case.params.s, case.geometry.max_position_embeddings / case.params.window
    says = f"runs factor {s * s:g} in place of {s:g}: write it in one place"
    yield _turned("factor squared", case.variant(factor=s * s), says)
    if ratio > 1:
        says = f"takes max_position_embeddings / window = {ratio:g} as factor: write factor where it is read"
        yield _turned("factor from the windows", case.variant(factor=ratio), says)


def _window(case: Case) -> Found:
    """The windows that readers confuse with the trained one."""
    if not case.has("original_max_position_embeddings"):
        return
    own, s = case.params.window, case.params.s if case.has("factor") else 1.0
    others = (case.geometry.max_position_embeddings, round(own * s), case.length, max(2, round(own / s)))
    for tokens in dict.fromkeys(others):
        says = f"counts from a window of {tokens} tokens, not {own}: write original_max_position_embeddings: {own}"
        yield _turned(f"window {tokens}", case.variant(original_max_position_embeddings=tokens), says)


def _attention(case: Case) -> Found:
    own, softmax = case.rotation.attention_factor, case.rotation.softmax_factor
    says = f"has no attention factor ({own:.4g}): write attention_factor under the name that it reads"
    yield _turned("attention factor missing", dataclasses.replace(case.rotation, attention_factor=1.0), says)
    says = f"applies the attention factor twice ({own**2:.4g}): write it in one place"
    yield _turned("attention factor squared", dataclasses.replace(case.rotation, attention_factor=own**2), says)
    usual = case.variant(attention_factor="auto") if case.has("attention_factor") else None
    if usual is not None:
        factor = usual.attention_factor
        says = f"takes the attention factor of its own formula, {factor:.4g}, not {own:.4g}: write it where it is read"
        other = dataclasses.replace(case.rotation, attention_factor=factor)
        yield _turned("attention factor by formula", other, says)
    says = f"has no softmax scale from mscale_all_dim ({softmax:.4g}): it does not read it for this model"
    yield _turned("softmax factor missing", dataclasses.replace(case.rotation, softmax_factor=1.0), says)
    says = f"applies the softmax scale from mscale_all_dim twice ({softmax**2:.4g}): write it in one place"
    yield _turned("softmax factor squared", dataclasses.replace(case.rotation, softmax_factor=softmax**2), says)


def _yarn(case: Case) -> Found:
    if case.has("truncate"):
        asked = case.params.truncate
        says = f"runs truncate: {str(not asked).lower()} (the bounds of the ramp): write truncate: {str(asked).lower()}"
        yield _turned("truncate", case.variant(truncate=not asked), says)
    if case.has("beta_fast"):
        says = "takes beta_fast 32 and beta_slow 1: write them under the names that it reads"
        yield _turned("betas by default", case.variant(beta_fast=32.0, beta_slow=1.0), says)
    if case.has("mscale"):
        says = "ignores mscale and mscale_all_dim: write attention_factor"
        yield _turned("mscale ignored", case.variant(mscale=None, mscale_all_dim=None), says)


def _type(case: Case) -> Found:
    """The type was not read, its factor was."""
    if case.has("factor"):
        says = "interpolates evenly (linear): it read factor and not the type; write both rope_type and type"
        yield _turned("linear", Rotation(inv_freq=case.geometry.unscaled_inv_freq / case.params.s), says)


def _lists(case: Case) -> Found:
    """Of scalings that change at the window: one of the two at all lengths."""
    if case.entry is None or not case.entry.varies(case.geometry, case.params):
        return
    says = "runs the rotation of short texts (short_factor): serve it with a context beyond the window"
    yield _turned("short instead of long", case.variant(length=1), says)
    says = "runs the rotation beyond the window (long_factor) inside it: serve it with a context inside the window"
    yield _turned("long instead of short", case.variant(length=max(case.length, 2 * case.params.window)), says)


def _layers(case: Case) -> Found:
    """Models with several kinds of layers."""
    other, asked = case.other_layers, Scheme(rotation=case.rotation)
    if other is None:
        return
    also = case.variant(other)
    if also is not None:
        says = "scales the sliding layers too: scope the scaling to full_attention"
        yield Hypothesis(name="sliding layers scaled", says=says, scheme=asked, sliding=also)
        says = "scales the sliding layers in place of the full ones: scope the scaling to full_attention"
        bare = Scheme(rotation=Rotation(inv_freq=case.geometry.unscaled_inv_freq))
        yield Hypothesis(name="only sliding layers scaled", says=says, scheme=bare, sliding=also)
    says = f"turns the full layers as the sliding ones (rope_theta {other.rope_theta:g}): write both by layer type"
    yield _turned("full layers as sliding ones", shipped(other, case.length), says)
    says = (
        f"turns the sliding layers as the full ones (rope_theta {case.geometry.rope_theta:g}): write both by layer type"
    )
    yield Hypothesis(name="sliding layers as full ones", says=says, scheme=asked, sliding=case.rotation)


def _temperature(case: Case) -> Found:
    """Where rope_parameters ship one (Ministral 3, Mistral 4)."""
    if case.geometry.rope_parameters.get(TEMPERATURE):
        says = f"has no temperature: it does not read {TEMPERATURE} (rope_parameters), which the model was trained with"
        yield Hypothesis(name="temperature missing", says=says, scheme=Scheme(rotation=case.rotation), tempered=False)


def _bos(case: Case) -> Found:
    asked = Scheme(rotation=case.rotation)
    if case.bos is not None:
        says = "puts a BOS before the text that it is sent: send text without one, or add_special_tokens: false"
        name = "BOS doubled" if case.bos else "BOS added"
        yield Hypothesis(name=name, says=says, scheme=asked, feed=Feed(kind="bos added"))
    if case.bos:
        says = "drops the BOS that the model was trained with: mend add_bos_token of its tokenizer, or send it"
        yield Hypothesis(name="BOS missing", says=says, scheme=asked, feed=Feed(kind="bos missing"))


def _context(case: Case) -> Found:
    asked, length = Scheme(rotation=case.rotation), case.length
    if case.given is not None:
        says = f"keeps the last {case.given} of {length} tokens alone: serve a longer context, or send less"
        yield Hypothesis(name="context cut", says=says, scheme=asked, feed=Feed(kind="tail", tokens=case.given))
    sizes = {case.geometry.window().length, case.geometry.max_position_embeddings, length // 2}
    for tokens in sorted(size for size in sizes if 1 < size < length):
        says = f"lets each token see the last {tokens} alone: switch its sliding window off"
        feed = Feed(kind="sliding", tokens=tokens)
        yield Hypothesis(name=f"sliding window {tokens}", says=says, scheme=asked, feed=feed)
        says = f"forgets the older half of its context whenever {tokens} tokens are full: serve a longer context"
        feed = Feed(kind="shifted", tokens=tokens)
        yield Hypothesis(name=f"shifted at {tokens}", says=says, scheme=asked, feed=feed)


FAULTS: tuple[Callable[[Case], Found], ...] = (
    _unscaled,
    _shipped,
    _theta,
    _lists,
    _factor,
    _yarn,
    _window,
    _attention,
    _type,
    _layers,
    _temperature,
    _bos,
    _context,
)
"""The likeliest first: of two that are one rotation the first gives the name."""
