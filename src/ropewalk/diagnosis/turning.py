"""The rotation that a module really computes, read back by calling it: whatever its buffers and configuration say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ropewalk.rope import Rotation

ANGLE = 2.0**-20
"""Allowed error of an angle in radians, per radian: some roundings in float32."""

Array = NDArray[np.float64]
"""Cosines or sines `[P, pairs]` at P positions, one position `[pairs]` of them, or a buffer of any shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning:
    """What a module does to positions.

    Attributes:
        module: its name in the model.
        layer_type: of the layers that ask it so; None where it does not tell them apart.
        rotation: None where it is not one static rotation.
        problem: why there is none.
    """

    module: str
    layer_type: str | None
    rotation: Rotation | None
    problem: str = ""


def turnings(model: Any, length: int) -> list[Turning]:
    """Of every rotary module of a model (a torch module of any library), for a text of `length` tokens."""
    found: list[Turning] = []
    for name, module in model.named_modules():
        if is_rotary(module) and not any(name.startswith(f"{each.module}.") for each in found):
            found += [_turning(name, module, kind, length) for kind in layer_types(module) or [None]]
    return found


def is_rotary(module: Any) -> bool:
    """Whether a module keeps frequencies or tables of cos and sin."""
    buffers = [name for name, _ in module.named_buffers(recurse=False)]
    return any(name.endswith(("inv_freq", "cos_cached", "cos_sin_cache")) for name in buffers)


def layer_types(module: Any) -> list[str]:
    """The kinds of layers that a rotary module keeps frequencies of its own for; none where it does not tell them
    apart."""
    names = [name.removesuffix("_inv_freq") for name, _ in module.named_buffers(recurse=False)]
    return [] if "inv_freq" in names else [name for name in names if not name.endswith("original")]


def _turning(name: str, module: Any, kind: str | None, length: int) -> Turning:
    positions = (0, 1, max(2, length // 2), max(3, length - 1))
    for way in WAYS:
        try:
            cos, sin = way(module, positions, kind)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError, AssertionError, KeyError):
            continue
        rotation, problem = read(cos, sin, positions)
        return Turning(module=name, layer_type=kind, rotation=rotation, problem=problem)
    return Turning(module=name, layer_type=kind, rotation=None, problem="takes its positions in no way that is known")


Pair = tuple[Array, Array]
"""cos and sin, float64 `[positions, D]`, D = rotary_dim or half of it."""


def _by_positions(module: Any, positions: tuple[int, ...], kind: str | None) -> Pair:
    """transformers >= 4.48: forward(x, position_ids[, layer_type])."""
    x, where = (
        torch.zeros(1, len(positions), 1, device=_device(module)),
        torch.tensor([positions], device=_device(module)),
    )
    found = module(x, where) if kind is None else module(x, where, kind)
    if isinstance(found, torch.Tensor):
        return _array(found.real[0]), _array(found.imag[0])
    return _array(found[0][0]), _array(found[1][0])


def _by_axes(module: Any, positions: tuple[int, ...], kind: str | None) -> Pair:
    """Models that see images: position_ids `[3, B, T]`."""
    where = torch.tensor([[positions]], device=_device(module)).expand(3, -1, -1)
    cos, sin = module(torch.zeros(1, len(positions), 1, device=_device(module)), where)
    return _array(cos.reshape(-1, *cos.shape[-2:])[0]), _array(sin.reshape(-1, *sin.shape[-2:])[0])


def _by_length(module: Any, positions: tuple[int, ...], kind: str | None) -> Pair:
    """Older remote code: forward(x, seq_len) gives tables."""
    cos, sin = module(torch.zeros(1, 1, 1, 1, device=_device(module)), seq_len=positions[-1] + 1)
    rows = list(positions)
    return _array(cos.reshape(-1, cos.shape[-1])[rows]), _array(sin.reshape(-1, sin.shape[-1])[rows])


def _by_table(module: Any, positions: tuple[int, ...], kind: str | None) -> Pair:
    """vLLM and SGLang: one table of cos beside sin, which forward indexes."""
    table = module.cos_sin_cache[list(positions)]
    half = table.shape[-1] // 2
    return _array(table[:, :half]), _array(table[:, half:])


WAYS: tuple[Callable[[Any, tuple[int, ...], str | None], Pair], ...] = (_by_positions, _by_axes, _by_length, _by_table)


def read(cos: Array, sin: Array, positions: tuple[int, ...]) -> tuple[Rotation | None, str]:
    """The one static rotation behind cos and sin `[positions, D]` at positions 0, 1, ...; or None and why not."""
    if not (np.isfinite(cos).all() and np.isfinite(sin).all()):
        return None, "gives cos and sin that are not finite"
    cos, sin = _halved(cos), _halved(sin)
    factor = float(np.hypot(cos[0], sin[0]).mean())
    if not math.isfinite(factor) or factor <= 0 or np.abs(cos[0] - factor).max() > 1e-5 * factor:
        return None, "does more at position 0 than multiply by one attention factor"
    inv_freq = np.arctan2(sin[1], cos[1])
    if (inv_freq < 0).any():
        return None, "turns a pair by more than half a turn per token"
    for row, position in enumerate(positions):
        angle = position * inv_freq
        off = np.hypot(cos[row] - factor * np.cos(angle), sin[row] - factor * np.sin(angle)).max() / factor
        if off > 1e-4 + ANGLE * position:
            return None, f"is no static rotation: position {position} is {off:.2g} off from {position} times position 1"
    return Rotation(inv_freq=inv_freq, attention_factor=factor), ""


def _halved(values: Array) -> Array:
    """One column per pair, from any layout."""
    half = values.shape[-1] // 2
    if half and values.shape[-1] % 2 == 0:
        if np.array_equal(values[:, :half], values[:, half:]):
            return values[:, :half]
        if np.array_equal(values[:, 0::2], values[:, 1::2]):
            return values[:, 0::2]
    return values


def _array(values: torch.Tensor) -> Array:
    """Float64 values of the same shape."""
    return values.detach().double().cpu().numpy()


def _device(module: Any) -> Any:
    return next((buffer.device for buffer in module.buffers()), torch.device("cpu"))


def by_rotation(found: list[Turning]) -> Iterator[tuple[Turning, int]]:
    """One of all modules that do the same, and how many they are."""
    seen: dict[tuple[str | None, Rotation | None, str], list[Turning]] = {}
    for each in found:
        seen.setdefault((each.layer_type, each.rotation, each.problem), []).append(each)
    for same in seen.values():
        yield same[0], len(same)
