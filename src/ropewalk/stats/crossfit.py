"""The best configuration of a method, chosen on half of the documents and judged on the other half, both ways.

The best of many configurations looks better than it is, because part of why it won is luck on these documents. Chosen
on one half and judged on the other, the luck is gone; `optimism` is what it had added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ropewalk.stats.blocks import Block
from ropewalk.stats.intervals import FloatArray, Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """One method, judged by configurations that were chosen without the documents that judge them.

    Attributes:
        chosen: the label chosen on units 1, 3, 5, ... and the one chosen on units 2, 4, 6, ...
        held_out: value on the units that did not choose, with its interval (mean nll, bits per byte, or a share).
        best: the label that is best on all units together, which is what one would deploy.
        in_sample: its value on those same units: too good by `optimism`.
        optimism: held_out minus in_sample, turned so that positive means "looked better than it is".
    """

    method: str
    chosen: tuple[str, str]
    held_out: Interval
    best: str
    in_sample: float
    optimism: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFit:
    """Held-out results of all methods.

    Attributes:
        methods: one entry per method that had a configuration to choose, best held-out value first.
        block: the held-out outcomes, methods as labels: give it to `best_set` for the methods tied with the best.
    """

    methods: tuple[HeldOut, ...]
    block: Block


def cross_fit(block: Block, configurations: Mapping[str, Sequence[str]]) -> CrossFit | None:
    """Cross-fit every method over its configurations; None where there are not two units to make halves of.

    Halves are the units at even and at odd places: documents come one kind after another and depths of prompts in
    order, so both halves see every kind and every depth.

    Args:
        block: outcomes at one length.
        configurations: labels of each method; those that the block lacks are skipped.
    """
    n = len(block.units)
    methods = {m: labels for m in configurations if (labels := [x for x in configurations[m] if x in block.labels])}
    if n < 2 or not methods:
        return None
    even_N = np.arange(n) % 2 == 0
    chosen = {m: (_best_on(block.only(x), even_N), _best_on(block.only(x), ~even_N)) for m, x in methods.items()}
    if any(label is None for pair in chosen.values() for label in pair):
        return None
    rows = [_swap(block, str(on_even), str(on_odd), even_N) for on_even, on_odd in chosen.values()]
    held_out = Block(
        column=block.column,
        lengths=block.lengths,
        labels=tuple(methods),
        units=block.units,
        numerators_CN=np.stack([numerators_N for numerators_N, _ in rows]),
        denominators_CN=np.stack([denominators_N for _, denominators_N in rows]),
    )
    entries = [_entry(block, held_out, m, methods[m], (str(a), str(b))) for m, (a, b) in chosen.items()]
    entries.sort(key=lambda entry: held_out.losses_C[held_out.labels.index(entry.method)])
    return CrossFit(methods=tuple(entries), block=held_out)


def _best_on(block: Block, chosen_N: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str | None:
    """Label with the lowest loss on the chosen units; the first of equals; None if they hold nothing scored."""
    y_C = block.denominators_CN[:, chosen_N].sum(axis=1)
    if (y_C == 0).any():
        return None
    value_C = block.numerators_CN[:, chosen_N].sum(axis=1) / y_C
    return block.labels[int((-value_C if block.column.higher_is_better else value_C).argmin())]


def _swap(
    block: Block, on_even: str, on_odd: str, even_N: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[FloatArray, FloatArray]:
    """Outcomes `[N]` in which each unit is judged by the configuration that the other half chose."""
    (x_even_N, y_even_N), (x_odd_N, y_odd_N) = block.row(on_even), block.row(on_odd)
    return np.where(even_N, x_odd_N, x_even_N), np.where(even_N, y_odd_N, y_even_N)


def _entry(block: Block, held_out: Block, method: str, labels: Sequence[str], chosen: tuple[str, str]) -> HeldOut:
    """Put the held-out result of one method beside what choosing on all units would have claimed."""
    own = block.only(labels)
    best = int(own.losses_C.argmin())
    loss = float(held_out.losses_C[held_out.labels.index(method)])
    return HeldOut(
        method=method,
        chosen=chosen,
        held_out=held_out.interval(method),
        best=own.labels[best],
        in_sample=float(own.values_C[best]),
        optimism=loss - float(own.losses_C[best]),
    )
