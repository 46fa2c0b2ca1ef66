"""Attention over branches, fast: every range of distance is cut into squares and rectangles that plain kernels know,
and what they give is merged by log-sum-exp.

Distances of at least d are causal attention of the queries from place d on to the keys that many places earlier. A
window of W is causal attention within blocks of W, and, turned back to front, causal attention to the block before. So
nothing is computed that is not asked for, in the kernels that are fastest at plain attention, on any device.

Shapes: B rows, H query heads, G key/value heads, S queries, K keys of which theirs are the last, D and E head
dimensions of keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ropewalk.models.turning import Turn
from ropewalk.scheme import Branch
from ropewalk.scoring.lse import with_lse


@dataclass(slots=True, eq=False)
class Sum:
    """Attention so far: out `[B, H, S, E]`, and the log-sum-exp of the logits seen, float32 `[B, H, S]`."""

    scaling: float | None
    out: Tensor
    lse: Tensor

    def see(self, first: int, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> None:
        """Queries `[B, H, N, D]`, the `first` and those after it, see all keys, or one more each (N of them)."""
        if query.shape[2] and key.shape[2]:
            self.put(first, *with_lse(query, key, value, causal=causal, scaling=self.scaling))

    def see_later(self, first: int, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Of N queries and N keys each query sees the keys behind its own: causal attention, back to front."""
        if query.shape[2] > 1:
            back = (part.flip(2) for part in (query[:, :, :-1], key[:, :, 1:], value[:, :, 1:]))
            out, lse = with_lse(*back, causal=True, scaling=self.scaling)
            self.put(first, out.flip(2), lse.flip(2))

    def put(self, first: int, out: Tensor, lse: Tensor) -> None:
        """Merge in what the queries from the `first` on have seen elsewhere."""
        span = slice(first, first + out.shape[2])
        every = torch.logaddexp(self.lse[:, :, span], lse)
        share = (lse - every).exp().to(out.dtype).unsqueeze(-1)
        self.out[:, :, span].lerp_(out, share)
        self.lse[:, :, span] = every


def branched(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, turn: Turn) -> Tensor:
    """Attention of unturned queries `[B, H, S, D]` to unturned keys `[B, G, K, D]` over the branches of a call;
    `[B, H, S, E]`."""
    out = query.new_zeros((*query.shape[:3], value.shape[3]))
    total = Sum(scaling=scaling, out=out, lse=torch.full_like(query[..., 0], -torch.inf, dtype=torch.float32))
    start = key.shape[2] - query.shape[2]
    for place, branch in enumerate(turn.branches):
        asks, told = turn.asks(query, place, start), turn.told(key, branch)
        (_by_distance if branch.block == 1 else _by_block)(total, branch, asks, told, value)
    return total.out


def _by_distance(total: Sum, branch: Branch, query: Tensor, key: Tensor, value: Tensor) -> None:
    """Distances in tokens: as if the keys were so many places later."""
    start = key.shape[2] - query.shape[2]
    first = max(0, branch.start - start)
    if first >= query.shape[2]:
        return
    query, place = query[:, :, first:], start + first - branch.start
    keys = min(key.shape[2] - branch.start, branch.keys or key.shape[2])
    key, value = key[:, :, :keys], value[:, :, :keys]
    if branch.stop is None:
        _up_to_own(total, first, place, query, key, value)
    else:
        _window(total, first, place, branch.stop - branch.start, query, key, value)


def _up_to_own(total: Sum, first: int, place: int, query: Tensor, key: Tensor, value: Tensor) -> None:
    """The n-th query sees the keys up to that at `place` + n, as far as there are keys."""
    count = min(query.shape[2], max(0, key.shape[2] - place))
    own = slice(place, place + count)
    total.see(first, query[:, :, :count], key[:, :, :place], value[:, :, :place])
    total.see(first, query[:, :, :count], key[:, :, own], value[:, :, own], causal=True)
    total.see(first + count, query[:, :, count:], key, value)


def _window(total: Sum, first: int, place: int, width: int, query: Tensor, key: Tensor, value: Tensor) -> None:
    """The n-th query sees the last `width` keys up to that at `place` + n: blocks of so many queries."""
    blocks = query.shape[2] // width
    if place < width and query.shape[2] > width:  # the first block has no whole block before it
        _window(
            total, first, place, width, query[:, :, :width], key[:, :, : place + width], value[:, :, : place + width]
        )
        _window(total, first + width, place + width, width, query[:, :, width:], key, value)
        return
    if blocks and place >= width:
        whole = blocks * width
        _blocks(total, first, place, width, query[:, :, :whole], key, value)
        first, place, query = first + whole, place + whole, query[:, :, whole:]
    count = query.shape[2]
    own = slice(place, place + count)
    total.see(first, query, key[:, :, own], value[:, :, own], causal=True)
    low, behind = max(0, place - width), max(0, width - place)  # the keys before, and how many of those are missing
    if behind < count:  # the first `behind` queries see every key before them; the others one less each
        start, stop = low, max(low, place - width + count)
        total.see(first, query[:, :, :behind], key[:, :, start:stop], value[:, :, start:stop])
        total.see_later(first + behind, query[:, :, behind:], *(part[:, :, start:stop] for part in (key, value)))
        low = stop
    total.see(first, query, key[:, :, low:place], value[:, :, low:place])


def _blocks(total: Sum, first: int, place: int, width: int, query: Tensor, key: Tensor, value: Tensor) -> None:
    """Whole blocks of queries beside each other, each with its own block of keys and the one before."""
    rows, blocks = query.shape[0], query.shape[2] // width
    own = slice(place, place + query.shape[2])
    before = slice(place - width, own.stop - width)
    shape = (rows * blocks, query.shape[1], width)
    parts = Sum(
        scaling=total.scaling,
        out=query.new_zeros((*shape, value.shape[3])),
        lse=torch.full(shape, -torch.inf, device=query.device),
    )
    asks = _stacked(query, width)
    parts.see(0, asks, _stacked(key[:, :, own], width), _stacked(value[:, :, own], width), causal=True)
    parts.see_later(0, asks, _stacked(key[:, :, before], width), _stacked(value[:, :, before], width))
    out = parts.out.unflatten(0, (rows, blocks)).transpose(1, 2).flatten(2, 3)
    total.put(first, out, parts.lse.unflatten(0, (rows, blocks)).transpose(1, 2).flatten(2, 3))


def _stacked(states: Tensor, width: int) -> Tensor:
    """`[B, H, n W, D]` as `[B n, H, W, D]`."""
    return states.unflatten(2, (-1, width)).transpose(1, 2).flatten(0, 1)


def _by_block(total: Sum, branch: Branch, query: Tensor, key: Tensor, value: Tensor) -> None:
    """Distances in blocks: the queries of a block see the same blocks of keys."""
    size, keys = branch.block, key.shape[2]
    start = keys - query.shape[2]
    for block in range(start // size, -(-keys // size)):
        low, high = max(start, block * size), min(keys, (block + 1) * size)
        asks, first = query[:, :, low - start : high - start], low - start
        begin = 0 if branch.stop is None else max(0, block - branch.stop + 1) * size
        end = max(0, min((block - branch.start + 1) * size, branch.keys or keys))
        if branch.start:
            total.see(first, asks, key[:, :, begin:end], value[:, :, begin:end])
        else:
            total.see(first, asks, key[:, :, begin:low], value[:, :, begin:low])
            total.see(first, asks, key[:, :, low:high], value[:, :, low:high], causal=True)
