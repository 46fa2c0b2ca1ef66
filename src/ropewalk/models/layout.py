"""The rotary module of a model: which one it is, and whether it lays out its dimensions as ropewalk does."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from ropewalk.errors import ModelError
from ropewalk.models.forward import CosSin, forward_of, rotations_of
from ropewalk.rope import Rotation

PROBE = (0, 1, 2, 1023)
"""Positions at which our forward must equal the stock one."""


def rotary_module(model: Any) -> torch.nn.Module:
    """The one `*.rotary_emb` of the text model.

    Raises:
        ModelError: there is none, or more than one.
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    found = {name: part for name, part in decoder.named_modules() if name.split(".")[-1] == "rotary_emb"}
    if len(found) != 1:
        raise ModelError(
            f"{type(model).__name__} has {len(found)} modules named rotary_emb {sorted(found)[:3]}, and one is needed; "
            "use the architecture as transformers >= 5.17 ships it, without remote code."
        )
    return next(iter(found.values()))


def stock_forward(module: torch.nn.Module) -> Callable[..., CosSin]:
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


def casts_to_input(module: torch.nn.Module, stock: Callable[..., CosSin], layer_type: str | None) -> bool:
    """Whether the stock forward casts cos and sin to the dtype of its input (OLMo does not).

    Raises:
        ModelError: with the module's own frequencies our forward gives other numbers than the stock one.
    """
    positions = torch.tensor([PROBE])
    for asked in (positions, positions.expand(3, -1, -1)):  # some of the models that see images take three axes only
        casts = _casts_if_equal(module, stock, layer_type, asked)
        if casts is not None:
            return casts
    raise ModelError(
        f"{type(module).__name__} does not lay out its rotation as cos and sin of (freqs, freqs), as Llama does; "
        "ropewalk would rotate the wrong pairs and measures no such model yet."
    )


def _casts_if_equal(
    module: torch.nn.Module, stock: Callable[..., CosSin], layer_type: str | None, positions: torch.Tensor
) -> bool | None:
    """None where stock and ours differ, on the CPU: a GPU's matrix product may round positions to TF32."""
    prefix = f"{layer_type}_" if layer_type else ""
    try:
        inv_freq = getattr(module, f"{prefix}inv_freq").double().cpu().numpy()
        own = Rotation(inv_freq=inv_freq, attention_factor=float(getattr(module, f"{prefix}attention_scaling", 1.0)))
        x, where = torch.zeros(1, 1), () if layer_type is None else (layer_type,)
        expected = stock(x, positions, *where)
        casts = stock(x.bfloat16(), positions, *where)[0].dtype == torch.bfloat16
        actual = forward_of((own,), stock, layer_type, casts=True)(x, positions, *where)
        pairs = list(zip(actual, expected, strict=True))
        same = all(a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-5) for a, b in pairs)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return None
    return casts if same else None
