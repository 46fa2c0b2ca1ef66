"""Branches: ranges of distance that attention looks at with positions and a rotation of their own."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ropewalk.rope import Rotation
from ropewalk.scheme.gains import Gains


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Where a token stands in a branch: min(scale * floor((i mod period) / group) + offset, limit), real-valued.

    Attributes:
        period: tokens after which counting starts anew; None counts on.
        group: tokens that stand at one position.
        limit: the largest position; None for any.
    """

    scale: float = 1.0
    offset: float = 0.0
    group: int = 1
    period: int | None = None
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.group < 1 or (self.period is not None and self.period < 1):
            raise ValueError(f"group={self.group} and period={self.period} must be at least 1 token")

    def at(self, places: NDArray[Any]) -> NDArray[np.float64]:
        """The position of each place, float64 of the same shape."""
        counted = places if self.period is None else places % self.period
        found = self.scale * np.floor(counted / self.group) + self.offset
        return found if self.limit is None else np.minimum(found, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """The pairs of a query at i and a key at j <= i whose distance floor(i/block) - floor(j/block) is in a range.

    Attributes:
        start: the least distance.
        stop: the first distance beyond; None for all.
        block: tokens in which distance is counted.
        keys: only the first so many keys are seen at such distances; None for all.
        rotation: by which query and key turn here.
        query: where the query stands.
        key: where the key stands.
        gains: what pairs of the query are multiplied by here alone; None for nothing.
    """

    rotation: Rotation
    start: int = 0
    stop: int | None = None
    block: int = 1
    keys: int | None = None
    query: Positions = field(default_factory=Positions)
    key: Positions = field(default_factory=Positions)
    gains: Gains | None = None

    def __post_init__(self) -> None:
        if self.block < 1 or self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise ValueError(f"a branch from {self.start} to {self.stop} in blocks of {self.block} holds no distance")
        if self.keys is not None and (self.keys < 1 or self.stop is not None):
            raise ValueError(f"keys={self.keys} must be at least 1, in a branch that goes on for ever; None for all")

    def holds(self, queries: NDArray[Any], keys: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each query attends to each key here, `[Q, K]`."""
        distance = queries[:, None] // self.block - keys[None] // self.block
        seen = (keys[None] <= queries[:, None]) & (distance >= self.start)
        if self.stop is not None:
            seen &= distance < self.stop
        return seen if self.keys is None else seen & (keys[None] < self.keys)

    def distances(self, queries: NDArray[Any], keys: NDArray[Any]) -> NDArray[np.float64]:
        """The distances that attention is told, `[Q, K]`, tokens."""
        return self.query.at(queries)[:, None] - self.key.at(keys)[None]

    def plain(self) -> dict[str, Any]:
        """As JSON values, without what is left as it is; the rotation as its fingerprint."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values |= {"query": dataclasses.asdict(self.query), "key": dataclasses.asdict(self.key)}
        values |= {"rotation": self.rotation.fingerprint}
        if (gains := values.pop("gains")) is not None:
            values["gains"] = gains.plain()
        return values

    @staticmethod
    def of(plain: Mapping[str, Any], rotation: Rotation) -> Branch:
        """What `plain` says, under a rotation of which it holds the fingerprint alone.

        Raises:
            ValueError, LookupError, TypeError: it says something else.
        """
        values: dict[str, Any] = {name: Positions(**plain[name]) for name in ("query", "key")} | {"rotation": rotation}
        if plain.get("gains") is not None:
            values["gains"] = Gains.of(plain["gains"])
        return Branch(**{**plain, **values})


def distance_map(branches: Sequence[Branch], length: int) -> NDArray[np.float64]:
    """The distance that a query at i is told of a key at j, `[length, length]`; NaN where it does not see it."""
    places = np.arange(length)
    told = np.full((length, length), np.nan)
    for branch in branches:
        told = np.where(branch.holds(places, places), branch.distances(places, places), told)
    return told


def check_disjoint(branches: Sequence[Branch]) -> None:
    """Refuse branches that overlap, count in different blocks, or leave a token without itself.

    Raises:
        ValueError: as said.
    """
    if len({branch.block for branch in branches}) > 1:
        raise ValueError("branches must count distance in blocks of one size")
    if len({branch.rotation.softmax_factor for branch in branches}) > 1:
        raise ValueError("branches must have one softmax factor, as attention has one softmax scale")
    if branches[0].start != 0 or branches[0].keys is not None:
        raise ValueError("the first branch must start at distance 0 and see all keys there")
    for near, far in itertools.pairwise(branches):
        if near.stop is None or far.start < near.stop:
            raise ValueError(f"branches overlap: one ends at {near.stop}, and the next starts at {far.start}")
