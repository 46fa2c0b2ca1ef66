"""The softmax scale of attention, where a scaling has a say in it: `mscale_all_dim` of DeepSeek and its family."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ropewalk.errors import ModelError
from ropewalk.methods.none import shipped
from ropewalk.models.auto import text_model
from ropewalk.rope import RopeGeometry, Rotation


@contextmanager
def scaled_softmax(model: Any, geometry: RopeGeometry, rotations: Sequence[Rotation]) -> Iterator[None]:
    """Give attention the softmax scale of `rotations` inside the block, in place of the one that ships.

    Raises:
        ModelError: the rotations ask for several, the architecture has none to set, or it is not the one expected.
    """
    asked = {rotation.softmax_factor for rotation in rotations}
    if len(asked) > 1:
        raise ModelError(
            f"{type(model).__name__}: rows with softmax factors {sorted(asked)} cannot share a batch, as attention has "
            "one softmax scale; run them apart."
        )
    ratio = asked.pop() / _own(geometry)
    if ratio == 1:
        yield
        return
    before = {module: module.scaling for module in attentions(model, geometry)}
    if not before:
        raise ModelError(
            f"{type(model).__name__}: its attention reads no mscale_all_dim, so it has no softmax factor to set; "
            "resolve the method with the geometry of this model."
        )
    try:
        for module, scaling in before.items():
            module.scaling = scaling * ratio
        yield
    finally:
        for module, scaling in before.items():
            module.scaling = scaling


def attentions(model: Any, geometry: RopeGeometry) -> list[Any]:
    """The attention modules whose `scaling` a scaling changes; none in most architectures.

    Raises:
        ModelError: there should be some and are none, or one's scale is not what the configuration makes of it.
    """
    if not geometry.softmax_mscale:
        return []
    modules: list[torch.nn.Module] = list(text_model(model).modules())
    found: list[Any] = [module for module in modules if hasattr(module, "qk_head_dim") and hasattr(module, "scaling")]
    for module in found:
        expected = module.qk_head_dim**-0.5 * _own(geometry)
        if not math.isclose(module.scaling, expected, rel_tol=1e-6):
            raise ModelError(
                f"{type(module).__name__} scales its logits by {module.scaling:.6g}, where its qk_head_dim and "
                f"mscale_all_dim make {expected:.6g}; ropewalk measures no such model yet."
            )
    if not found:
        raise ModelError(
            f"{type(model).__name__} reads mscale_all_dim, but has no attention with qk_head_dim and scaling; ropewalk "
            "measures no such model yet."
        )
    return found


def _own(geometry: RopeGeometry) -> float:
    return shipped(geometry, 1).softmax_factor if geometry.softmax_mscale else 1.0
