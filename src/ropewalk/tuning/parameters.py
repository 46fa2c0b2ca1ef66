"""What is tuned, as few tensors as can be: a stretch of each pair, ln A, and gains of the query.

Shapes: P pairs, L layers, H query heads, D dimensions of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Gains
from ropewalk.tuning.pairs import Turning

WHATS = ("rotation", "rotation+head", "rotation+pair", "rotation+head+pair")
"""What may be tuned: the rotation alone; with a gain per head, per layer and pair, or per head and pair."""

RATES: Mapping[str, float] = {"stretch": 0.06, "ln_attention_factor": 0.015, "gains": 0.015}
HEAD_RATE = 0.03
"""Learning rates of Adam; a gain that a whole head shares moves faster."""
ENOUGH, FASTEST = 80, 2.0
"""Steps that come far enough at these rates. Fewer, as where the text is long, are larger, by FASTEST at most. Steps of
pieces never are: they come no further then (docs/results/tune.md)."""

TURNS = 2.0
"""Of a pair in the window, up to which its stretch is ln lambda. Pairs that turn more often move by as much less: no
step turns the window's end by more than TURNS times the rate. Their gradient is large and mostly noise; at the full
rate Adam moves them at random, and what stands inside the window with them (docs/results/tune.md)."""

STILL = 16.0
"""ln lambda of a pair that does not turn at the start: a factor of 9 million."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parameters:
    """Leaves of the graph, float32: `stretch [P]`, `ln_attention_factor []`, `gains [L, H or 1, P or 1]` (empty
    where only the rotation is tuned). `ease [P]` is what a stretch of 1 does to ln lambda, at most 1, and stays."""

    stretch: Tensor
    ln_attention_factor: Tensor
    gains: Tensor
    ease: Tensor

    @property
    def ln_lambda(self) -> Tensor:
        """How much slower each pair turns than it was trained to, `[P]`."""
        return self.stretch * self.ease

    def named(self) -> dict[str, Tensor]:
        """By name; those that have numbers."""
        every = {name: getattr(self, name) for name in RATES}
        return {name: tensor for name, tensor in every.items() if tensor.numel()}

    def inv_freq(self, unscaled_P: Tensor) -> Tensor:
        """rad/token, `[P]`."""
        return unscaled_P * torch.exp(-self.ln_lambda)

    def factors(self, spread_PD: Tensor, heads: int) -> Tensor | None:
        """Of the query, `[L, H, D]`; None where only the rotation is tuned.

        Args:
            spread_PD: 1 where a dimension belongs to a pair; a product of matrices, as gradients of indexing are summed
                in any order on a GPU.
            heads: H.
        """
        if not self.gains.numel():
            return None
        gains_LHP = self.gains.expand(-1, heads, spread_PD.shape[0])
        return torch.exp(gains_LHP @ spread_PD)

    @torch.no_grad()
    def clamp(self) -> None:
        """No pair may turn faster than it was trained to."""
        self.stretch.clamp_(min=0.0)

    def clear(self) -> None:
        """Drop the gradients."""
        for tensor in self.named().values():
            tensor.grad = None

    @torch.no_grad()
    def rotation(self, geometry: RopeGeometry) -> Rotation:
        """The rotation, in float64."""
        divisors = np.exp(self.ln_lambda.double().cpu().numpy())
        factor = math.exp(float(self.ln_attention_factor))
        return Rotation(inv_freq=geometry.unscaled_inv_freq / divisors, attention_factor=factor)

    @torch.no_grad()
    def query_gains(self, heads: int, pairs: int) -> Gains | None:
        """The gains of every head and pair; None where only the rotation is tuned."""
        return Gains(log=self.gains.expand(-1, heads, pairs).cpu().numpy()) if self.gains.numel() else None


def rates(what: str, steps: int, *, pieces: bool = False) -> dict[str, float]:
    """Learning rate by name of the parameter, of a descent of so many steps, of whole texts or of pieces."""
    pace = 1.0 if pieces else min(FASTEST, max(1.0, ENOUGH / steps))
    own = dict(RATES) | ({"gains": HEAD_RATE} if what == "rotation+head" else {})
    return {name: rate * pace for name, rate in own.items()}


def shape_of(what: str, turns: Turning) -> tuple[int, ...]:
    """Of the gains."""
    pairs = int(turns.pairs.max()) + 1
    shapes = {
        "rotation": (0,),
        "rotation+head": (turns.depth, turns.heads, 1),
        "rotation+pair": (turns.depth, 1, pairs),
        "rotation+head+pair": (turns.depth, turns.heads, pairs),
    }
    return shapes[what]


def start(geometry: RopeGeometry, rotation: Rotation, gains: tuple[int, ...], device: torch.device) -> Parameters:
    """At a rotation, with gains of 0."""
    turns = geometry.unscaled_inv_freq * geometry.window().length / math.tau
    with np.errstate(divide="ignore"):
        ease = np.minimum(1.0, TURNS / turns)
        ln_lambda = np.clip(np.log(geometry.unscaled_inv_freq / rotation.inv_freq), 0.0, STILL)
    made = {
        "stretch": torch.tensor(ln_lambda / ease, dtype=torch.float32),
        "ln_attention_factor": torch.tensor(math.log(rotation.attention_factor), dtype=torch.float32),
        "gains": torch.zeros(gains, dtype=torch.float32),
    }
    leaves = {name: tensor.to(device).requires_grad_(True) for name, tensor in made.items()}
    return Parameters(**leaves, ease=torch.tensor(ease, dtype=torch.float32, device=device))


def spread(turns: Turning) -> Tensor:
    """1 where a dimension belongs to a pair, float32 `[P, D]`."""
    return torch.from_numpy((turns.pairs[None, :] == np.arange(turns.pairs.max() + 1)[:, None]).astype(np.float32))
