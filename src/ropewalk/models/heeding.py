"""Whether a model's attention can take a scheme, and the block inside which it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from ropewalk.errors import ModelError
from ropewalk.models.dense import over
from ropewalk.models.pairs import ALONE, Call, calls_of
from ropewalk.models.turning import Passing, enter
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Gains, Scheme

SHIPPED_BETA = "llama_4_scaling_beta"
CHUNKED = "chunked_attention"
"""A kind of layers, in the words of transformers (Llama 4)."""


def passing_of(model: Any, schemes: Sequence[Scheme], geometry: RopeGeometry, modules: Sequence[nn.Module]) -> Passing:
    """The schemes made ready for attention.

    Raises:
        ModelError: a scheme that this model's attention cannot take, or schemes that cannot share a batch.
    """
    name = type(model).__name__
    if len(modules) > 1:
        raise ModelError(f"{name} has {len(modules)} rotary modules, one in each layer; {ALONE}.")
    if len({scheme.branches for scheme in schemes}) > 1:
        raise ModelError("rows with different branches cannot share a batch; run them apart.")
    calls = calls_of(model)
    text = model.config.get_text_config(decoder=True)
    kinds = getattr(text, "layer_types", None) or []
    covered = frozenset(
        call.layer for call in calls if geometry.layer_type is None or kinds[call.layer] == geometry.layer_type
    )
    turning = {call.layer for call in calls if call.layer in covered and call.pairs.turns}
    for scheme in schemes:
        for gains in (scheme.gains, *(branch.gains for branch in scheme.branches)):
            if gains is not None:
                _check_gains(name, gains, calls, covered, layers=text.num_hidden_layers, geometry=geometry)
        if scheme.temperature is not None:
            _check_temperature(name, scheme, calls, text)
        if scheme.branches and (chunked := turning & {layer for layer, kind in enumerate(kinds) if kind == CHUNKED}):
            raise ModelError(
                f"{name} sees no token before its chunk in layer {min(chunked)}, so nothing can branch; {ALONE}."
            )
        for branch in scheme.branches:
            if 2 * branch.rotation.inv_freq.size != geometry.rotary_dim:
                raise ModelError(
                    f"A branch's rotation has {branch.rotation.inv_freq.size} frequencies, but rotary_dim="
                    f"{geometry.rotary_dim} needs {geometry.rotary_dim // 2}; resolve it with this model's geometry."
                )
    return Passing(schemes=tuple(schemes), calls=calls, covered=covered)


@contextmanager
def heeded(model: Any, helped: Passing) -> Iterator[None]:
    """Attention does its part inside the block.

    Raises:
        ModelError: a forward pass inside the block went by without attention that heeds schemes.
    """
    before = model.config.get_text_config()._attn_implementation
    name = over(before)
    if name != before:
        model.set_attn_implementation(name)
    outer = enter(helped)
    try:
        yield
        if helped.passes and not helped.attended:
            raise ModelError(f"{type(model).__name__}: its attention ran without the scheme; {ALONE}.")
    finally:
        enter(outer)
        if name != before:
            model.set_attn_implementation(before)


def _check_gains(
    name: str, gains: Gains, calls: Sequence[Call], covered: frozenset[int], *, layers: int, geometry: RopeGeometry
) -> None:
    heads = max(call.heads for call in calls)
    wanted = (layers, heads, geometry.rotary_dim // 2)
    if gains.log.shape != wanted:
        raise ModelError(
            f"{name} takes gains of shape {list(wanted)} (layers, heads, rotated pairs), not {list(gains.log.shape)}; "
            "give those that were found on this model."
        )
    turning = {call.layer for call in calls if call.layer in covered and call.pairs.turns}
    idle = [layer for layer in range(layers) if layer not in turning and gains.log[layer].any()]
    if idle:
        raise ModelError(
            f"{name} has nothing for gains to act on in layer {idle[0]}, which does not turn with the layers that "
            "methods change; make them 0 there."
        )


def _check_temperature(name: str, scheme: Scheme, calls: Sequence[Call], text: Any) -> None:
    kind = scheme.temperature.kind if scheme.temperature else None
    rope = getattr(text, "rope_parameters", None) or {}
    ships = SHIPPED_BETA if rope.get(SHIPPED_BETA) else "attn_temperature_tuning"
    if rope.get(SHIPPED_BETA) or getattr(text, "attn_temperature_tuning", False):
        raise ModelError(
            f"{name} ships a temperature of its own ({ships}), which would be applied beside {kind!r}; leave "
            "temperature out, and it has the one that it ships."
        )
    if kind == "llama4" and all(call.pairs.turns for call in calls):
        raise ModelError(
            f"{name} turns in all of its layers, and the temperature 'llama4' is for layers that do not; "
            "'ministral' is the same for those that do."
        )
