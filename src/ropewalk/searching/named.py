"""The named methods as a search's first candidates: whatever is found, it is no worse than all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ropewalk.errors import MethodError
from ropewalk.experiment.plan import Configuration, configurations
from ropewalk.methods import resolve
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.searching import families
from ropewalk.searching.objective import Goal, Outcome, score
from ropewalk.searching.record import Answer, Record
from ropewalk.searching.study import Candidate, Measure

STUDY = "named"
GROUP = 8
"""Rotations measured between two writes."""


def asked_for(methods: dict[str, Any], geometry: RopeGeometry, length: int) -> dict[Configuration, Rotation]:
    """The file's configurations and the usual ones, each with its rotation for `length`, `none` first.

    A usual one that this geometry refuses is left out; one of the file's was refused before.
    """
    usual = families.named(geometry, geometry.window().length, length)
    found: dict[Configuration, Rotation] = {}
    seen: set[str] = set()
    for configuration in (*configurations(methods), *configurations(usual)):
        if configuration.label in seen:
            continue
        seen.add(configuration.label)
        try:
            found[configuration] = resolve(geometry, configuration.method, configuration.params, length).rotation
        except MethodError:
            continue
    return found


def measure_all(
    record: Record, named: dict[Configuration, Rotation], measure: Measure, told: Callable[[int, int], None]
) -> None:
    """Measure those that are not stored yet; equal rotations are one measurement."""
    done = record.of(STUDY)
    left = [(each.label, rotation) for each, rotation in named.items() if each.label not in done]
    known: dict[str, Outcome | str] = {}
    for start in range(0, len(left), GROUP):
        told(len(done) + start, len(named))
        group = left[start : start + GROUP]
        new = {rotation.fingerprint: rotation for _, rotation in group if rotation.fingerprint not in known}
        known |= dict(zip(new, measure(list(new.values()), None), strict=True))
        for label, rotation in group:
            outcome = known[rotation.fingerprint]
            if isinstance(outcome, Outcome):
                record.add(Answer(study=STUDY, candidate=label, outcome=outcome))
            else:
                record.add(Answer(study=STUDY, candidate=label, reason=outcome))


def stored(record: Record, named: dict[Configuration, Rotation], goal: Goal) -> dict[Configuration, Candidate]:
    """The named candidates, scored; those without losses are left out."""
    outcomes = {label: answer.outcome for label, answer in record.of(STUDY).items() if answer.outcome is not None}
    unscaled = outcomes["none"]
    found = {}
    for configuration, rotation in named.items():
        if (outcome := outcomes.get(configuration.label)) is not None:
            scored = score(outcome, unscaled, goal)
            found[configuration] = Candidate(
                label=configuration.label,
                rotation=rotation,
                outcome=outcome,
                score=scored,
                objective=scored.objective,
                dropped=False,
            )
    return found


def best_of_each(named: dict[Configuration, Candidate]) -> dict[str, Candidate]:
    """Each method at its best parameters: the lowest objective, `none` among them."""
    found: dict[str, Candidate] = {}
    for configuration, candidate in named.items():
        if configuration.method not in found or candidate.objective < found[configuration.method].objective:
            found[configuration.method] = candidate
    return found


def first(candidates: Sequence[Candidate]) -> Candidate:
    """The best, within all bounds if there is one."""
    return min(candidates, key=lambda c: (not c.won, c.objective))
