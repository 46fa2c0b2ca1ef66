"""What weights of 8 bits would leave on this very model, asked where nothing fits: some models magnify roundings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ropewalk.diagnosis.hypothesis import Hypothesis
from ropewalk.diagnosis.match import Match, match
from ropewalk.diagnosis.score import Losses, losses
from ropewalk.export.check import ENGINE_RMS
from ropewalk.models import LoadedModel

ROOM = 1.5
"""Times what weights of 8 bits leave: the root of 2 where activations are rounded to as many, and a little."""


def judged(
    loaded: LoadedModel, ids: NDArray[np.int32], hypotheses: Sequence[Hypothesis], local: Sequence[Losses], nll: Losses
) -> tuple[Match, float | None]:
    """The match of a server's losses with `local`, the hypotheses' own; and, where none of them fits at first, the
    root mean square of what weights of 8 bits a row would leave of the nearest, nats/token, within which it may be.
    `ids` int32 `[T]` are the tokens that both scored.

    Raises:
        ExportError: too few tokens.
        ModelError: the pass failed.
    """
    found = match(nll, local)
    if found.found is not None:
        return found, None
    with eight_bits(loaded.model):
        rounded = losses(loaded, ids, [hypotheses[found.nearest]])[0]
    left = float(np.sqrt(np.nanmean((rounded - local[found.nearest]) ** 2)))
    return match(nll, local, max(ENGINE_RMS, ROOM * left)), left


@contextlib.contextmanager
def eight_bits(model: Any) -> Iterator[None]:
    """Linear layers but the head compute with weights rounded to 8 bits a row inside the block, one layer at a time;
    each has its own back when it is done."""
    own: dict[nn.Module, torch.Tensor] = {}

    def before(module: nn.Linear, _: Any) -> None:
        own[module] = module.weight.data
        scale = module.weight.data.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
        module.weight.data = (module.weight.data / scale).round() * scale

    def after(module: nn.Linear, *_: Any) -> None:
        module.weight.data = own.pop(module)

    head = model.get_output_embeddings()
    linear = [module for module in model.modules() if type(module) is nn.Linear and module is not head]
    hooks = [each.register_forward_pre_hook(before) for each in linear]
    hooks += [each.register_forward_hook(after, always_call=True) for each in linear]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
