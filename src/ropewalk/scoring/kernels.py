"""What makes a forward pass fast: our attention, layers compiled one by one, long MLPs in chunks.

Whole-model compilation is left out on purpose: it makes transformers build a mask tensor (slower at 16K tokens).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ropewalk.models.replaced import replaced
from ropewalk.models.spread import forward_name
from ropewalk.scoring.attention import installed
from ropewalk.scoring.head import PROBE_STRIDE, Head, Loss, Split
from ropewalk.scoring.modes import wanted_tail
from ropewalk.scoring.proofs import Paths, choose

_LOG = logging.getLogger(__name__)

MLP_CHUNK_TOKENS = 32_768
"""Positions that an MLP takes at a time: its inner activations are several times wider than the hidden states."""

HOPPER = (9, 0)
ALIGNED = 8
"""Rows of 16-bit numbers that are copied by descriptor start at multiples of 16 bytes."""

COMPILED_TOKENS = 1024
"""Smaller passes run as they are: canaries would cost compilations for shapes of their own."""

HEAD_TOKENS = 257
HEAD_NOISE = 1e-3
"""Nats: ten times what tensor cores cut off sums of 2048 products."""


def layers_of(model: Any) -> list[nn.Module]:
    """The decoder's layers, in order; empty where the architecture keeps them elsewhere."""
    return list(getattr(model.get_decoder(), "layers", []))


@contextmanager
def fast(model: Any, parts: Split, *, compiled: bool, longest: int | None = None) -> Iterator[Split]:
    """Run `model` with our kernels inside the block, as far as they are right for it; yields the parts to score with.

    What is left out is logged, and stands in `left_out` of the parts.

    Args:
        model: a causal language model of transformers.
        parts: what `split(model)` gave.
        compiled: compile layers and loss (CUDA; costs seconds once, pays for itself after about a million tokens).
        longest: the most tokens of a pass to come: what a model does differently beyond them needs no proof.
    """
    forwards = cache(partial(_forwards, model))  # compiled once, however often they are installed

    @contextmanager
    def running(paths: Paths) -> Iterator[Split]:
        with ExitStack() as stack:
            stack.enter_context(installed(model, paths.attention))
            for module, forward in forwards(mlp=paths.mlp, compiled=paths.compiled):
                stack.enter_context(replaced(module, forward, forward_name(module)))
            yield parts

    paths, proven = choose(model, parts, running, compiled=COMPILED_TOKENS if compiled else 0, longest=longest)
    with running(paths):
        if compiled:
            proven = _with_quick_head(model, proven)
        for note in proven.left_out:
            _LOG.warning("%s", note)
        yield proven


def _forwards(model: Any, *, mlp: bool, compiled: bool) -> list[tuple[nn.Module, Callable[..., Any]]]:
    """Modules, and what they run in place of their forward."""
    layers = layers_of(model)
    found: list[tuple[nn.Module, Callable[..., Any]]] = []
    for layer in layers:
        inner = getattr(layer, "mlp", None)
        if mlp and isinstance(inner, nn.Module):
            own = getattr(inner, forward_name(inner))
            chunked = _chunked(_compiled(own) if compiled else own)
            found.append((inner, _tail_only(chunked) if layer is layers[-1] else chunked))
        if compiled:
            found.append((layer, _compiled(getattr(layer, forward_name(layer)))))
    return found


@torch.inference_mode()
def _with_quick_head(model: Any, parts: Split) -> Split:
    """The parts with a fused or compiled loss, if that gives the losses of the plain one."""
    quick, count = _quick(parts.head), parts.head.weight.shape[0]
    ids = torch.arange(HEAD_TOKENS, device=parts.head.weight.device) * PROBE_STRIDE % count
    hidden = parts.body(ids[None])[0, :-1]
    off = (quick.nll(hidden, ids[1:]) - parts.head.nll(hidden, ids[1:])).abs().max().item()
    if off <= HEAD_NOISE:
        return dataclasses.replace(parts, head=quick)
    note = f"{type(model).__name__}: the fast loss is left out: it differs by {off:.2g} nats (rounding: {HEAD_NOISE:g})"
    return dataclasses.replace(parts, left_out=(*parts.left_out, note))


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A module's forward `(x [B, T, H], ...)`, compiled for what is not small."""
    quick = torch.compile(forward, dynamic=True)

    @torch.compiler.disable(recursive=False)
    def by_size(x_BTH: Tensor, *args: Any, **kwargs: Any) -> Any:
        large = x_BTH.shape[0] * x_BTH.shape[1] >= COMPILED_TOKENS
        return (quick if large else forward)(x_BTH, *args, **kwargs)

    return by_size


def _compiled_loss(loss: Loss) -> Loss:
    """A loss compiled for any number of positions and one vocabulary: with its width known it reads the logits once."""
    quick = torch.compile(loss)

    @torch.compiler.disable(recursive=False)
    def for_any_count(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        torch._dynamo.maybe_mark_dynamic(logits_NV, 0)
        torch._dynamo.maybe_mark_dynamic(targets_N, 0)
        return quick(logits_NV, targets_N)

    return for_any_count


def _quick(head: Head) -> Head:
    """The head with a fused loss if there is one for it, or with a compiled one."""
    if not _fusible(head):
        return dataclasses.replace(head, loss=_compiled_loss(head.loss))
    from ropewalk.scoring import fused

    return dataclasses.replace(head, fused=partial(fused.nll, weight_VH=head.weight, multiplier=float(head.multiplier)))


def _fusible(head: Head) -> bool:
    """Whether the kernel of `fused` knows this head, on a device where it was found to be faster."""
    weight = head.weight
    return (
        weight.is_cuda
        and torch.cuda.get_device_capability(weight.device) == HOPPER
        and find_spec("triton") is not None
        and weight.dtype in (torch.bfloat16, torch.float16)
        and weight.is_contiguous()
        and weight.shape[1] % ALIGNED == 0
        and head.bias is None
        and head.softcap is None
    )


def _chunked(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An MLP `[B, T, H] -> [B, T, H]` that takes its positions as one row, and a long row in chunks."""

    @torch.compiler.disable(recursive=False)
    def in_chunks(x_BTH: Tensor) -> Tensor:
        x_1NH = x_BTH.reshape(1, -1, x_BTH.shape[-1])
        if x_1NH.shape[1] <= MLP_CHUNK_TOKENS:
            return forward(x_1NH).view(x_BTH.shape)
        out = torch.empty_like(x_1NH)
        for start in range(0, x_1NH.shape[1], MLP_CHUNK_TOKENS):
            out[:, start : start + MLP_CHUNK_TOKENS] = forward(x_1NH[:, start : start + MLP_CHUNK_TOKENS])
        return out.view(x_BTH.shape)

    return in_chunks


def _tail_only(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The last layer's MLP `[B, T, H] -> [B, T, H]`, zero where nothing is wanted of it (`attention.only_last`)."""

    @torch.compiler.disable
    def tail_only(x_BTH: Tensor) -> Tensor:
        tail = wanted_tail()
        if not 0 < tail < x_BTH.shape[1]:
            return forward(x_BTH)
        out = torch.zeros_like(x_BTH)
        out[:, -tail:] = forward(x_BTH[:, -tail:])
        return out

    return tail_only
