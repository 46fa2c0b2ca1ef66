"""How far a pass that is run again may be from the stored one, and which forgeries a sample would notice; pure.

Measured with strand (passes of 127 to 1023 tokens, torch 2.13): on the machine that made a run a pass comes back to the
last bit, at any number of rows (docs/results/trust.md). With other kernels in bfloat16 (eager attention) a token is off
by up to .44 nats, by .024 to .053 in the root mean square of a pass, and a pass's mean by at most 3.0 of these over the
square root of its tokens: what is rounded otherwise averages out, and a forged mean does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME = {"float32": 1e-5, "bfloat16": 1e-3, "float16": 1e-4}
"""Root mean square over a pass's tokens, nats, where the canary is reproduced to the last bit: measured as 0."""

SCATTER = {"float32": 2e-5, "bfloat16": 0.05, "float16": 0.0065}
"""Root mean square of what other kernels do to a token's loss, nats: measured in bfloat16 and an eighth of it in
float16, which has three bits more; in float32 what sums in another order do (tests/scoring)."""

SIGMAS = 6.0
"""Twice the largest mean that was measured, in units of SCATTER over the square root of the tokens."""

SPREAD = 4.0
"""How many times SCATTER the tokens of a pass may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What a pass is judged by.

    Attributes:
        dtypes: of the run and of the model now; the coarser counts.
        same: this device reproduces the run's canary to the last bit.
    """

    dtypes: frozenset[str]
    same: bool

    def mean(self, tokens: int) -> float:
        """Largest allowed difference of a pass's mean loss, nats/token."""
        if self.same:
            return max(SAME[name] for name in self.dtypes)
        return SIGMAS * max(SCATTER[name] for name in self.dtypes) / math.sqrt(tokens)

    def spread(self) -> float:
        """Largest allowed root mean square difference of a pass's losses, nats."""
        return max(SAME[name] if self.same else SPREAD * SCATTER[name] for name in self.dtypes)

    def allows(self, stored: NDArray[np.float32], found: NDArray[np.float32]) -> bool:
        """Whether two lists of losses `[T]` of the same tokens may come from one model."""
        if stored.shape != found.shape:
            return False
        apart = found.astype(np.float64) - stored.astype(np.float64)
        return bool(abs(apart.mean()) <= self.mean(apart.size) and np.sqrt((apart**2).mean()) <= self.spread())


def chance(passes: int, chosen: int, altered: int) -> float:
    """Probability that at least one of `altered` passes is among those `chosen` at random."""
    return 1.0 - math.comb(passes - altered, chosen) / math.comb(passes, chosen)


def noticed(tolerance: Tolerance, lengths: Sequence[int], chosen: int, per_configuration: int, all_cells: int) -> str:
    """What running some passes again says of forgeries, in a sentence.

    Args:
        tolerance: what the passes are judged by.
        lengths: tokens of every stored pass.
        chosen: how many of them are run again.
        per_configuration: passes of the configuration that has the fewest.
        all_cells: what --cells takes to run all passes again.
    """
    size = tolerance.mean(min(lengths))
    here = "reproduces" if tolerance.same else "does not reproduce"
    every = "" if chosen == len(lengths) else f"; --cells {all_cells} would notice it for certain"
    return (
        f"{chosen} of {len(lengths)} passes again would notice a change of {size:.2g} nats/token in one configuration "
        f"with probability {chance(len(lengths), chosen, per_configuration):.2g}, in a single pass with "
        f"{chosen / len(lengths):.2g} (this device {here} the run's canary to the last bit){every}."
    )
