"""The loss of one step, and its gradient: mean loss beyond the window, what the window pays, and a probe's answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ropewalk.rope import Rotation
from ropewalk.tuning.draws import Draw, Ids
from ropewalk.tuning.forward import Tunable, mean_nll
from ropewalk.tuning.parameters import Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of the parts of a loss: what the window loses against the unscaled model, and the probe's answer."""

    short: float = 1.0
    retrieval: float = 0.3


PIECES = Weights(short=2.0, retrieval=0.6)
"""Of steps that are fed pieces: their loss beyond the window is of fewer tokens, which have less before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A step's, nats per token: `excess` is the loss inside the window less the unscaled model's, `answer` that of the
    probe's tokens (0 without one)."""

    beyond: float
    excess: float
    answer: float

    def total(self, weights: Weights) -> float:
        return self.beyond + weights.short * max(0.0, self.excess) + weights.retrieval * self.answer


def descend(model: Tunable, parameters: Parameters, drawn: Draw, window: int, none: Rotation, weights: Weights) -> Loss:
    """The loss; adds its gradient to those of the parameters. Document and probe go one after the other, so that
    memory holds one of them."""
    device, text = model.parts.head.weight.device, drawn.text
    ids, targets = _ids(text.ids, device), _ids(text.targets, device)
    unscaled = model.unscaled_nll(ids[:window], none)
    with model.under(parameters):
        hidden = _hidden(model, ids, text.places)
        inside = mean_nll(model.parts.head, hidden[: window - 1], targets[: window - 1])
        beyond = mean_nll(model.parts.head, _read(hidden, text.read), _read(targets, text.read))
        (beyond + weights.short * torch.relu(inside - unscaled)).backward()
    answer = 0.0
    if drawn.prompt is not None and weights.retrieval > 0:
        count, ids = drawn.prompt.answer_tokens, _ids(drawn.prompt.ids, device)
        with model.under(parameters):
            hidden = _hidden(model, ids, drawn.prompt.places)
            loss = mean_nll(model.parts.head, hidden[-count - 1 : -1], ids[-count:])
            (weights.retrieval * loss).backward()
        answer = float(loss.detach())
    return Loss(beyond=float(beyond.detach()), excess=float(inside.detach()) - unscaled, answer=answer)


def _hidden(model: Tunable, ids_T: Tensor, places: Ids | None) -> Tensor:
    """Of the tokens at `places` `[K]`, `[K, H]`; of all of them `[T, H]` if there are none."""
    if places is None:
        return model.hidden(ids_T)
    places_K = _ids(places, ids_T.device)
    return model.hidden(ids_T[places_K], places_K)


def _read(each_T: Tensor, slices: tuple[slice, ...]) -> Tensor:
    """What slices of `[T]` or `[T, H]` hold, one after the other, `[N]` or `[N, H]`."""
    return each_T[slices[0]] if len(slices) == 1 else torch.cat([each_T[each] for each in slices])


def _ids(ids: Ids, device: torch.device) -> Tensor:
    """The same ids on a device, int64 `[T]`."""
    return torch.from_numpy(ids.astype(np.int64)).to(device)
