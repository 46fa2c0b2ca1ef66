"""The rotary modules of a model: which they are, and how they lay out their cos and sin."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ropewalk.errors import ModelError
from ropewalk.models.auto import text_model
from ropewalk.models.forward import LAYOUTS, Layout, Rotary, forward_of, rotations_of
from ropewalk.models.geometry import geometry_of
from ropewalk.rope import Rotation

PROBE = (0, 1, 2, 1023)
"""Positions at which our forward must equal the stock one."""

_PROVEN: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], tuple[Layout, bool]]] = WeakKeyDictionary()
"""Per rotary module: what its proof read, and what it found."""


def rotary_module(model: Any) -> nn.Module:
    """The first of `rotary_modules`."""
    return rotary_modules(model)[0]


def rotary_modules(model: Any) -> list[nn.Module]:
    """The modules of the text model that keep inverse frequencies of the layers that methods apply to.

    Most models have one, `rotary_emb`; Moshi has one per layer, and DeepSeek V4 some within its attention.

    Raises:
        ModelError: there is none, or they keep different frequencies.
    """
    decoder = text_model(model)
    buffer = _buffer(geometry_of(model.config).layer_type, "inv_freq")
    found = [part for part in decoder.modules() if part._buffers.get(buffer) is not None]
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no module with a buffer {buffer}, where the rotation of transformers' models "
            "is; use the architecture as transformers >= 5.17 ships it, without remote code."
        )
    kept = [getattr(part, buffer) for part in found]
    if not all(torch.equal(one.cpu(), kept[0].cpu()) for one in kept[1:]):
        raise ModelError(
            f"{type(model).__name__} rotates its layers by different frequencies (rope_theta per layer), and one "
            "rotation would replace them all; ropewalk measures models that rotate all such layers alike."
        )
    return found


def stock_forward(module: nn.Module) -> Callable[..., Rotary]:
    """The class's own forward without `dynamic_rope_update`, which would overwrite buffers.

    Raises:
        ModelError: it is ours already, or would compute from rounded frequencies.
    """
    if rotations_of(module.forward) is not None:
        raise ModelError("The model is patched already; leave the first `with patched(...)` before entering another.")
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point() and buffer.dtype != torch.float32:
            raise ModelError(
                f"rotary_emb.{name} is {str(buffer.dtype).removeprefix('torch.')}, which rounds every position; "
                "load the model with from_pretrained(dtype=...) instead of casting it with model.to(...)."
            )
    return functools.partial(inspect.unwrap(type(module).forward), module)


def layout_of(module: nn.Module, stock: Callable[..., Rotary], layer_type: str | None) -> tuple[Layout, bool]:
    """How the stock forward lays out cos and sin, and whether it casts them to the dtype of its input (OLMo does not).

    Proven once per module, as the proof copies from the device and waits for it; again when what it read has changed.

    Raises:
        ModelError: with the module's own frequencies our forward gives other numbers than the stock one.
    """
    read = _read(module, layer_type)
    before = _PROVEN.get(module)
    if read is not None and before is not None and _same(before[0], read):
        return before[1]
    found = _proof(module, stock, layer_type)
    if read is not None:
        _PROVEN[module] = read, found
    return found


def _read(module: nn.Module, layer_type: str | None) -> tuple[Any, ...] | None:
    """All that a proof depends on; None for tensors whose changes leave no trace."""
    buffers = [buffer for _, buffer in module.named_buffers()]
    if any(buffer.is_inference() for buffer in buffers):
        return None
    factor = getattr(module, _buffer(layer_type, "attention_scaling"), None)
    versions = [part for buffer in buffers for part in (buffer, buffer._version)]
    return type(module).forward, layer_type, factor, *versions


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two are the same, tensors by identity."""
    return len(one) == len(other) and all(
        a is b or (not isinstance(a, Tensor) and a == b) for a, b in zip(one, other, strict=True)
    )


def _proof(module: nn.Module, stock: Callable[..., Rotary], layer_type: str | None) -> tuple[Layout, bool]:
    positions = torch.tensor([PROBE])
    for asked in (positions, positions.expand(3, -1, -1)):  # some of the models that see images take three axes only
        found = _layout_if_equal(module, stock, layer_type, asked)
        if found is not None:
            return found
    raise ModelError(
        f"{type(module).__name__} lays out cos and sin in none of the ways that ropewalk knows "
        f"({', '.join(layout.name for layout in LAYOUTS)}), and would be rotated wrongly; report the architecture."
    )


def _layout_if_equal(
    module: nn.Module, stock: Callable[..., Rotary], layer_type: str | None, positions: Tensor
) -> tuple[Layout, bool] | None:
    """How it lays out positions `[..., 1, P]`; None where stock and ours differ.

    On the CPU: a GPU's matrix product may round positions to TF32.
    """
    try:
        inv_freq = getattr(module, _buffer(layer_type, "inv_freq")).double().cpu().numpy()
        factor = float(getattr(module, _buffer(layer_type, "attention_scaling"), 1.0))
        own = Rotation(inv_freq=inv_freq, attention_factor=factor)
        x, where = torch.zeros(1, 1), () if layer_type is None else (layer_type,)
        expected = stock(x, positions, *where)
        casts = not isinstance(expected, Tensor) and stock(x.bfloat16(), positions, *where)[0].dtype == torch.bfloat16
        for layout in LAYOUTS:
            ours = forward_of((own,), stock, layer_type, layout=layout, casts=True)(x, positions, *where)
            if _equal(ours, expected):
                return layout, casts
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return None
    return None


def _equal(ours: Rotary, expected: Rotary) -> bool:
    """Whether two are of one kind and shape, and differ by rounding at most."""
    if isinstance(ours, Tensor) or isinstance(expected, Tensor):
        return isinstance(ours, Tensor) and isinstance(expected, Tensor) and _close(ours, expected)
    return all(_close(a, b) for a, b in zip(ours, expected, strict=True))


def _close(one: Tensor, other: Tensor) -> bool:
    """Whether two have the same shape, dtype and nearly the same numbers."""
    return one.shape == other.shape and one.dtype == other.dtype and torch.allclose(one, other, rtol=0, atol=1e-5)


def _buffer(layer_type: str | None, name: str) -> str:
    return name if layer_type is None else f"{layer_type}_{name}"
