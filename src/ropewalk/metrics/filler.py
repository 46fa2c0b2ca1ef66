"""Filler to hide a line in: five sentences over and over (Mohtashami & Jaggi, arXiv:2305.16300); pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FILLER = (
    "The grass is green.",
    " The sky is blue.",
    " The sun is yellow.",
    " Here we go.",
    " There and back again.",
)


def rounds(sentences: list[list[int]], room: int) -> list[int]:
    """Whole rounds of the sentences, cut at `room` tokens; a round after the first starts with a space."""
    first, *middle, later_first = sentences
    tail = [token for sentence in middle for token in sentence]
    filler = first + tail
    while len(filler) < room:
        filler += later_first + tail
    return filler[:room]


def boundary(sentences: list[list[int]], target: float) -> int:
    """The number of filler tokens nearest to `target` from below that ends a sentence."""
    first, *middle, later_first = sentences
    steps, done = [first, *middle], 0
    while True:
        for step in steps:
            if done + len(step) > target:
                return done
            done += len(step)
        steps = [later_first, *middle]


def last(line: Sequence[int], hidden: Sequence[int]) -> int:
    """Where the hidden tokens stand in a line for the last time; 0 where others spell it there."""
    places = range(len(line) - len(hidden), 0, -1)
    return next((i for i in places if list(line[i : i + len(hidden)]) == list(hidden)), 0)


def depths(trials: int) -> list[float]:
    """An even grid from 0 to 1; one trial stands in the middle."""
    return [0.5] if trials == 1 else [float(depth) for depth in np.linspace(0.0, 1.0, trials)]
