"""What attention itself does for the schemes of a forward pass: sharpens queries, and turns them where `patched` leaves
them unturned.

Shapes: B rows, R schemes (1 or B), H query heads, S queries, K keys of which theirs are the last, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ropewalk.errors import ModelError
from ropewalk.models.pairs import Call, Pairs
from ropewalk.models.placement import upload
from ropewalk.rope import Rotation
from ropewalk.scheme import Branch, Gains, Positions, Scheme

Table = tuple[Tensor, Tensor]
"""cos and sin per dimension, float32 `[R, 1, T, D]`; sin carries the sign of the partner."""


@dataclass(slots=True, eq=False)
class Passing:
    """The schemes of a patched model, and how far the running forward pass is.

    Attributes:
        schemes: R of them, with the same branches.
        calls: of attention in a pass, in order.
        covered: the layers that schemes apply to.
    """

    schemes: tuple[Scheme, ...]
    calls: tuple[Call, ...]
    covered: frozenset[int]
    done: int = 0
    passes: int = 0
    attended: bool = False
    places: Tensor | None = None
    gains: dict[tuple[int, int | None, torch.device], Tensor] = field(default_factory=dict)
    tables: dict[Any, Any] = field(default_factory=dict)

    def begin(self, position_ids: Tensor) -> None:
        """A forward pass over positions `[B or 1, S]` starts; what was kept for the last one goes."""
        self.done, self.passes, self.places = 0, self.passes + 1, position_ids
        self.tables.clear()

    def next(self, keys: int, device: torch.device) -> Turn:
        """What the next call of attention, to so many keys, is to do."""
        self.attended = True
        if self.done >= len(self.calls) or self.places is None:
            raise ModelError("attention is called otherwise than in the first pass; report the architecture.")
        place, call = self.done, self.calls[self.done]
        self.done += 1
        if call.layer not in self.covered:
            return Turn(passing=self, pairs=call.pairs)
        gain = self._gain((place, None, device), call, [scheme.gains for scheme in self.schemes])
        tau = self._temperature(call.pairs.turns, keys, device)
        factor = gain if tau is None else tau if gain is None else gain * tau
        branches = self.schemes[0].branches if call.pairs.turns else ()
        gains = [self._gain((place, at, device), call, [branch.gains]) for at, branch in enumerate(branches)]
        return Turn(passing=self, pairs=call.pairs, factor=factor, branches=branches, gains=tuple(gains))

    def _gain(
        self, key: tuple[int, int | None, torch.device], call: Call, gains: Sequence[Gains | None]
    ) -> Tensor | None:
        """exp(g) per dimension, float32 `[R, H, 1, D]`, kept by the place of the call, the branch and the device."""
        if all(each is None for each in gains):
            return None
        if key not in self.gains:
            ones = np.ones((call.heads, 1))  # where nothing turns: pair -1
            shape = call.heads, self.schemes[0].rotation.inv_freq.size
            logs = [np.zeros(shape) if each is None else each.log[call.layer] for each in gains]
            every = np.stack([np.concatenate([np.exp(log.astype(np.float64)), ones], 1) for log in logs])
            self.gains[key] = upload(every[:, :, None, call.pairs.pair.numpy()].astype(np.float32), key[2])
        return self.gains[key]

    def _temperature(self, turns: bool, keys: int, device: torch.device) -> Tensor | None:
        """tau per position, float32 `[R, 1, S, 1]`; `llama4` is for layers that do not turn."""
        every_one = (scheme.temperature for scheme in self.schemes)
        asked = [None if one is None or (one.kind == "llama4" and turns) else one for one in every_one]
        if all(temperature is None for temperature in asked):
            return None
        key = "tau", turns, keys, device
        if key not in self.tables:
            at = np.arange(keys)
            every = np.stack([np.ones(keys) if t is None else t.at(at) for t in asked]).astype(np.float32)
            places = _text(self.places).to(device).expand(len(asked), -1)
            self.tables[key] = upload(every, device).gather(1, places)[:, None, :, None]
        return self.tables[key]

    def table(self, pairs: Pairs, rotations: tuple[Rotation, ...], where: Positions, span: range, device: Any) -> Table:
        """cos and sin at a span of places, kept for the layers of a pass."""
        key = id(pairs), rotations, where, span, device
        if key not in self.tables:
            self.tables[key] = _table(pairs, rotations, where.at(np.arange(span.start, span.stop)), device)
        return self.tables[key]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """What one call of attention is to do.

    Attributes:
        factor: by which queries are multiplied, float32 `[R, H or 1, S or 1, D or 1]`; None leaves them.
        branches: over which attention goes, with queries and keys that the model has not turned; empty for attention as
            it is, with those that it has.
        gains: by which queries are multiplied in each branch, float32 `[1, H, 1, D]`; None leaves them.
    """

    passing: Passing
    pairs: Pairs
    factor: Tensor | None = None
    branches: tuple[Branch, ...] = ()
    gains: tuple[Tensor | None, ...] = ()

    def sharpened(self, query: Tensor) -> Tensor:
        """Queries `[B, H, S, D]` times their factor, in their own dtype."""
        return query if self.factor is None else (query * self.factor).to(query.dtype)

    def asks(self, query: Tensor, place: int, start: int) -> Tensor:
        """Queries `[B, H, T, D]` of the places from `start` on, as they ask in the branch at a place among branches."""
        gain, branch = self.gains[place], self.branches[place]
        query = query if gain is None else (query * gain).to(query.dtype)
        return self._turned(query, (branch.rotation,), branch.query, start)

    def told(self, key: Tensor, branch: Branch) -> Tensor:
        """Keys `[B, G, T, D]` of the places from 0 on, as they stand in a branch."""
        return self._turned(key, (branch.rotation,), branch.key, 0)

    def plain(self, states: Tensor, start: int) -> Tensor:
        """Queries or keys `[B, H, T, D]` of the places from `start` on, turned as without branches."""
        return self._turned(states, tuple(s.rotation for s in self.passing.schemes), Positions(), start)

    def _turned(self, states: Tensor, rotations: tuple[Rotation, ...], where: Positions, start: int) -> Tensor:
        span = range(start, start + states.shape[2])
        cos, sin = self.passing.table(self.pairs, rotations, where, span, states.device)
        return states * cos.to(states.dtype) + self._partners(states) * sin.to(states.dtype)

    def _partners(self, states: Tensor) -> Tensor:
        """Each dimension's partner; of whole heads in halves by moving those."""
        if self.pairs.halves:
            half = states.shape[-1] // 2
            return torch.cat((states[..., half:], states[..., :half]), dim=-1)
        key = "partner", id(self.pairs), states.device
        if key not in self.passing.tables:
            self.passing.tables[key] = upload(self.pairs.partner.numpy(), states.device)
        return states.index_select(-1, self.passing.tables[key])


def _table(pairs: Pairs, rotations: tuple[Rotation, ...], positions: np.ndarray, device: Any) -> Table:
    inv_freq = upload(np.stack([r.inv_freq for r in rotations]).astype(np.float32), device)[:, None, None]
    factor = upload(np.array([r.attention_factor for r in rotations], np.float32), device).view(-1, 1, 1, 1)
    angle = upload(positions.astype(np.float32), device)[:, None] * inv_freq
    pair = upload(pairs.pair.numpy(), device)
    still, index = pair < 0, pair.clamp_min(0)
    cos, sin = (angle.cos() * factor)[..., index], (angle.sin() * factor)[..., index]
    return cos.masked_fill(still, 1.0), sin * upload(pairs.sign.numpy(), device)


def _text(places: Tensor | None) -> Tensor:
    """Positions `[B or 1, S]`."""
    if places is None:
        raise ModelError("attention ran before its rotary module; report the architecture.")
    return places if places.ndim == 2 else places[0]


_passing: Passing | None = None


def passing() -> Passing | None:
    """The schemes for which the running forward pass needs attention's help; None if there are none."""
    return _passing


def enter(one: Passing | None) -> Passing | None:
    """Make it the running one; what was before comes back."""
    global _passing
    before, _passing = _passing, one
    return before
