"""What a metric of forced answers gives to tuning: prompts of its kind from any seed; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ropewalk.stats.column import Column

if TYPE_CHECKING:
    from ropewalk.metrics.metric import Metric, OfPrompt

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """Texts of a prompt: an instruction, sentences of filler, the line that hides a key, and what asks for it."""

    instruction: str
    filler: tuple[str, ...]
    line: Callable[[str], str]
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """A metric's prompts for other purposes than its own value.

    Attributes:
        column: the share of them that is found.
        wording: their texts.
        keys: (count, length, seed) to what is asked for in the prompts of a length.
        count: options to the number of prompts of a length.
        some: (options, count) to options with that many.
        kinds: options to those of the same probes in several surroundings, by name; as asked first.
        found: whether an answer is right.
        check: options to why their answers have no losses; None if they have.
    """

    column: Column
    wording: Wording
    keys: Callable[[int, int, int], Sequence[str]]
    count: Callable[[Any], int]
    some: Callable[[Any, int], Any]
    kinds: Callable[[Any], Mapping[str, Any]]
    found: Callable[[OfPrompt], bool]
    check: Callable[[Any], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """An experiment's metric that gives probes, with the options that it asks for."""

    metric: Metric
    options: Any
    probes: Probes


def probing(asked: Iterable[tuple[Metric, Any]]) -> Probing | None:
    """The first metric of an experiment that gives probes; None if none does."""
    for metric, options in asked:
        if metric.probes is not None:
            return Probing(metric=metric, options=options, probes=metric.probes)
    return None
