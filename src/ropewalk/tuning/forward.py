"""A forward pass of a transformers model that gradients of rotation and gains go through, in memory that grows with the
length alone: layers are computed again for the backward pass where not all that they made fits, losses leave their
gradient behind as they are made.

Shapes: T positions, H hidden size, V vocabulary, N scored positions, P pairs, D dimensions of a head, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer
from typing_extensions import override

from ropewalk.errors import ModelError
from ropewalk.models import patched
from ropewalk.models.forward import Layout, Rotary
from ropewalk.models.geometry import geometry_of
from ropewalk.models.layout import layout_of, rotary_modules, stock_forward
from ropewalk.models.replaced import replaced
from ropewalk.rope import Rotation
from ropewalk.scoring.head import CHUNK_BYTES, Head, Split
from ropewalk.tuning.attention import gained, tunable
from ropewalk.tuning.memory import Room, room_of
from ropewalk.tuning.near import Far
from ropewalk.tuning.pairs import Turning
from ropewalk.tuning.parameters import Parameters, spread

FLAG, FUNCTION = "gradient_checkpointing", "_gradient_checkpointing_func"
"""What transformers' layers read; the method of the model that sets them has another name from version to version."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tunable:
    """A model inside `opened`.

    Attributes:
        room: for what its layers keep.
        rotaries: its rotary modules, each with the layout of its cos and sin and whether it casts them.
        unscaled_P: f_i, float32.
        near: tokens nearer than which attention is as trained, whatever the parameters; None for none.
        spread_PD: which dimensions belong to a pair, float32.
    """

    model: Any
    parts: Split
    turns: Turning
    room: Room
    rotaries: tuple[tuple[nn.Module, Layout, bool], ...]
    layer_type: str | None
    unscaled_P: Tensor
    spread_PD: Tensor
    near: int | None = None

    def hidden(self, ids_T: Tensor, places_T: Tensor | None = None) -> Tensor:
        """Last hidden states `[T, H]`, of one text, under what is in force; its tokens stand at 0, 1, ..., or at
        `places_T`."""
        return self.parts.body(ids_T[None], None if places_T is None else places_T[None])[0]

    @contextmanager
    def under(self, parameters: Parameters) -> Iterator[None]:
        """Forward and backward passes inside the block run under the parameters, and can be differentiated by them."""
        inv_freq_P = parameters.inv_freq(self.unscaled_P)
        factor = parameters.ln_attention_factor.exp()
        factors, far = parameters.factors(self.spread_PD, self.turns.heads), None
        with ExitStack() as stack:
            if self.near is not None:
                far = Far(
                    near=self.near,
                    rest_P=inv_freq_P - self.unscaled_P,
                    factor=factor,
                    pairs=self.turns.turn,
                    layers=frozenset(self.turns.layers),
                    factors_LHD=factors,
                )
                inv_freq_P, factor, factors = self.unscaled_P, torch.ones_like(factor), None
            stack.enter_context(gained(factors, far))
            for module, layout, casts in self.rotaries:
                forward = _rotary(module, inv_freq_P, factor, layout, casts, self.layer_type)
                stack.enter_context(replaced(module, forward))
            yield

    @torch.no_grad()
    def unscaled_nll(self, ids_T: Tensor, rotation: Rotation) -> float:
        """Mean loss of the tokens after the first under a rotation of the model's own, nats."""
        with patched(self.model, rotation):
            return float(mean_nll(self.parts.head, self.hidden(ids_T)[:-1], ids_T[1:]))


@contextmanager
def opened(model: Any, parts: Split, turns: Turning, near: int | None = None) -> Iterator[Tunable]:
    """The model with attention and layers that gradients go through; as it was after the block.

    Raises:
        ModelError: its layers cannot be computed again for the backward pass.
    """
    geometry, device = geometry_of(model.config), parts.head.weight.device
    found = [
        (module, *layout_of(module, stock_forward(module), geometry.layer_type)) for module in rotary_modules(model)
    ]
    room = room_of(model) if near is None else Room(0)  # far pairs keep their own
    with tunable(model), _checkpointed(model, room):
        yield Tunable(
            model=model,
            parts=parts,
            turns=turns,
            room=room,
            rotaries=tuple(found),
            layer_type=geometry.layer_type,
            unscaled_P=torch.tensor(geometry.unscaled_inv_freq, dtype=torch.float32, device=device),
            spread_PD=spread(turns).to(device),
            near=near,
        )


@contextmanager
def _checkpointed(model: Any, room: Room) -> Iterator[None]:
    """Layers keep their inputs alone where there is no room for more; only they are told that this is training, so
    nothing drops out."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no layers that transformers can compute again for a backward pass, so "
            "gradients would not fit in memory; use an architecture of transformers, without remote code."
        )
    again = partial(_kept_or_again, room)
    before = [{name: getattr(layer, name, None) for name in (FLAG, FUNCTION, "training")} for layer in layers]
    for layer in layers:
        for name, value in ((FLAG, True), (FUNCTION, again), ("training", True)):
            setattr(layer, name, value)
    try:
        yield
    finally:
        for layer, values in zip(layers, before, strict=True):
            for name, value in values.items():
                setattr(layer, name, value)


def _kept_or_again(room: Room, layer: Callable[..., Any], hidden_BTH: Tensor, *args: Any) -> Any:
    """A layer's output; what it made on the way is kept for the backward pass, or made again in it."""
    if hidden_BTH.shape[1] <= room.tokens:
        return layer(hidden_BTH, *args)
    return checkpoint(layer, hidden_BTH, *args, use_reentrant=False, preserve_rng_state=False)


def _rotary(
    module: nn.Module, inv_freq_P: Tensor, factor: Tensor, layout: Layout, casts: bool, scaled: str | None
) -> Callable[..., Rotary]:
    """As `models.forward.forward_of`, of tensors that have a gradient."""
    stock = stock_forward(module)

    def forward(x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> Rotary:
        if scaled is not None and layer_type != scaled:
            with torch.no_grad():
                return stock(x, position_ids, layer_type)
        positions = position_ids if position_ids.ndim == 2 else position_ids[0]
        angle = layout.angles(positions[..., None].float() * inv_freq_P.to(x.device))
        cos, sin = angle.cos() * factor.to(x.device), angle.sin() * factor.to(x.device)
        if layout.is_complex:
            return torch.complex(cos, sin)
        return (cos.to(x.dtype), sin.to(x.dtype)) if casts else (cos, sin)

    return forward


class _MeanNll(torch.autograd.Function):
    """Mean loss over positions, in chunks of logits; the gradient of the hidden states is made along with it."""

    @staticmethod
    @override
    def forward(*args: Any, **kwargs: Any) -> Tensor:
        ctx, hidden_NH, targets_N, head = args
        room = CHUNK_BYTES["cuda" if hidden_NH.is_cuda else "cpu"]
        chunk = max(1, room // (4 * head.weight.shape[0]))
        total, wanted = hidden_NH.new_zeros((), dtype=torch.float64), ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden_NH) if wanted else None
        for start in range(0, len(targets_N), chunk):
            stop = start + chunk
            product = head.product(hidden_NH[start:stop])
            with torch.enable_grad():
                product.requires_grad_(wanted)
                loss = head.loss(head.shaped(product), targets_N[start:stop]).sum()
            total += loss.detach()
            if gradient is not None:
                (slope,) = torch.autograd.grad(loss, product)
                gradient[start:stop] = slope.to(hidden_NH.dtype) @ head.weight
        ctx.count = len(targets_N)
        ctx.save_for_backward(gradient)
        return (total / len(targets_N)).float()

    @staticmethod
    @override
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * (slopes[0] / ctx.count).to(gradient.dtype), None, None


def mean_nll(head: Head, hidden_NH: Tensor, targets_N: Tensor) -> Tensor:
    """Mean negative log-likelihood, nats per token, float32; without ever holding `[N, V]`."""
    return _MeanNll.apply(hidden_NH, targets_N, head)
