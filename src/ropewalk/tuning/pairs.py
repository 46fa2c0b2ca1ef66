"""Which layers of a model turn by the rotation that is tuned, and which dimensions of their queries turn together.

Shapes: D dimensions of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import ModelError
from ropewalk.models.pairs import Pairs, calls_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turning:
    """Attributes:
    layers: which layers turn by the rotation that methods change.
    depth: layers of the model.
    heads: query heads of those that turn.
    turn: which dimensions turn with which.
    """

    layers: tuple[int, ...]
    depth: int
    heads: int
    turn: Pairs

    @property
    def pairs(self) -> NDArray[np.int64]:
        """The pair of each dimension of a head, `[D]`; -1 where it does not turn."""
        return self.turn.pair.numpy()


def turning(model: Any) -> Turning:
    """Read off what attention is seen to do.

    Raises:
        ModelError: no layer turns, or heads differ from layer to layer.
    """
    name, turns = type(model).__name__, [call for call in calls_of(model) if call.pairs.turns]
    if not turns:
        raise ModelError(f"{name}: no layer's query turns, so there is nothing to tune.")
    first, layers = turns[0], sorted(call.layer for call in turns)
    if len(set(layers)) < len(layers) or not all(c.heads == first.heads and c.pairs.same(first.pairs) for c in turns):
        raise ModelError(f"{name}: heads differ from layer to layer, or layers run twice; it cannot be tuned yet.")
    depth: int = model.config.get_text_config(decoder=True).num_hidden_layers
    return Turning(layers=tuple(layers), depth=depth, heads=first.heads, turn=first.pairs)
