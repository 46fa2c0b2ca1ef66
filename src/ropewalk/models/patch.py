"""Run a model with another rotation than its own, and put everything back afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ropewalk.errors import ModelError
from ropewalk.models.forward import forward_of
from ropewalk.models.geometry import geometry_of
from ropewalk.models.layout import casts_to_input, rotary_module, stock_forward
from ropewalk.models.softmax import attentions, scaled_softmax
from ropewalk.rope import RopeGeometry, Rotation


@contextmanager
def patched(model: Any, rotation: Rotation | Sequence[Rotation]) -> Iterator[None]:
    """Replace the rotation of `model` inside the block.

    One rotation holds for every row of a batch; of a sequence, the i-th holds for the i-th row. In models with several
    kinds of layers only those of `geometry_of(config).layer_type` change. Key-value caches filled under another
    rotation must not be reused inside.

    Raises:
        ModelError: the model has no single rotary module, lays out its dimensions differently (interleaved), has
            rounded frequencies, or is patched already; a rotation does not fit; rotations differ in their softmax
            factor; inside the block, a batch has another number of rows than there are rotations.
    """
    geometry = geometry_of(model.config)
    rotations = (rotation,) if isinstance(rotation, Rotation) else tuple(rotation)
    module = rotary_module(model)
    _check_rotations(rotations, geometry)
    stock = stock_forward(module)
    casts = casts_to_input(module, stock, geometry.layer_type)
    device = next(module.buffers()).device
    ours = forward_of(rotations, stock, geometry.layer_type, casts=casts, device=device)
    before = module.__dict__.get("forward")  # accelerate's hooks live here
    module.forward = ours
    try:
        with scaled_softmax(model, geometry, rotations):
            yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def check_patchable(model: Any) -> None:
    """Refuse a model that `patched` would refuse.

    Raises:
        ModelError: as `patched` does.
    """
    module = rotary_module(model)
    geometry = geometry_of(model.config)
    casts_to_input(module, stock_forward(module), geometry.layer_type)
    attentions(model, geometry)


def _check_rotations(rotations: tuple[Rotation, ...], geometry: RopeGeometry) -> None:
    if not rotations:
        raise ModelError("patched() was given no rotation; give one for all rows, or one per batch row.")
    for rotation in rotations:
        if 2 * rotation.inv_freq.size != geometry.rotary_dim:
            raise ModelError(
                f"The rotation has {rotation.inv_freq.size} frequencies, but rotary_dim={geometry.rotary_dim} needs "
                f"{geometry.rotary_dim // 2}; resolve the method with the geometry of this model."
            )
