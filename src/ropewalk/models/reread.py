"""Proof, from inside a running model, that its layers get the rotation that was asked for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.errors import ModelError
from ropewalk.models.forward import Layout, layout_made, rotations_of
from ropewalk.models.geometry import geometry_of
from ropewalk.models.layout import rotary_modules
from ropewalk.rope import Rotation

TOLERANCE = 1e-5
"""Allowed error of a float32 cos or sin, relative to the attention factor: some ulp, and argument reduction of large
angles. The angle itself must be the float32 product of position and frequency, to the last bit."""


@contextmanager
def reread(model: Any) -> Iterator[set[Rotation]]:
    """Watch what the rotary modules hand to the layers; yields the rotations seen and found right so far.

    The first pass of each rotation is compared, at its last position, with cos and sin computed anew in float64. One
    comparison per rotation: on a GPU each waits for the device.

    Raises:
        ModelError: (inside the block, out of the forward pass) cos or sin are not those of the rotation asked for.
    """
    scaled = geometry_of(model.config).layer_type
    right: set[Rotation] = set()

    def compare(rotary: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        asked = rotations_of(rotary.forward)
        if asked is None or right.issuperset(asked):
            return
        given = inspect.signature(rotary.forward).bind(*args, **kwargs).arguments
        if scaled is not None and given.get("layer_type") != scaled:
            return
        last = given["position_ids"].reshape(-1, given["position_ids"].shape[-1])[:, -1].cpu().numpy()
        layout = layout_made(rotary.forward)
        for name, found, turn in zip(("cos", "sin"), layout.pair(out), (np.cos, np.sin), strict=True):
            _require(type(model).__name__, name, found[:, -1], _expected(asked, layout, last, turn), int(last[0]))
        right.update(asked)

    handles = [module.register_forward_hook(compare, with_kwargs=True) for module in rotary_modules(model)]
    try:
        yield right
    finally:
        for handle in handles:
            handle.remove()


def _expected(asked: tuple[Rotation, ...], layout: Layout, last: NDArray[np.int64], turn: Any) -> NDArray[np.float64]:
    """cos or sin at the last position, `[rows, rotary_dim]`, or half of it."""
    inv_freq = np.stack([rotation.inv_freq for rotation in asked]).astype(np.float32)
    angle = (last[: 1 if len(set(last)) == 1 else None, None].astype(np.float32) * inv_freq).astype(np.float64)
    factor = np.array([[rotation.attention_factor] for rotation in asked])
    return layout.angles(torch.from_numpy(turn(angle) * factor)).numpy()


def _require(name: str, what: str, found: torch.Tensor, expected: NDArray[np.float64], position: int) -> None:
    """Raises ModelError where cos or sin `[rows, rotary_dim]` are not the expected ones of the same shape."""
    allowed = max(TOLERANCE, torch.finfo(found.dtype).eps) * max(1.0, float(np.abs(expected).max()))
    actual = found.double().cpu().numpy()
    same = actual.shape[-1] == expected.shape[-1] and bool((np.abs(actual - expected) <= allowed).all())
    if not same:
        off = float(np.abs(actual - expected).max()) if actual.shape[-1] == expected.shape[-1] else float("nan")
        raise ModelError(
            f"{name}: {what} at position {position} is off by {off:.3g} from the rotation asked for (allowed "
            f"{allowed:.3g}), so its numbers would be another rotation's; report the architecture and device."
        )
