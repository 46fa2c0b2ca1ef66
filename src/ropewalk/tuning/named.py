"""The named methods on the tuning set, measured once and kept: the best of them is where descents start.

What each descent ended at is kept beside them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from ropewalk.errors import MethodError, StoreError
from ropewalk.experiment.plan import Configuration, configurations
from ropewalk.files import read_inside, write_whole
from ropewalk.methods import resolve
from ropewalk.rope import RopeGeometry
from ropewalk.scheme import Scheme
from ropewalk.tuning.bench import Bench
from ropewalk.tuning.objective import Outcome, Score, score
from ropewalk.tuning.scene import Scene

FILE = "named.json"
GROUP = 8
"""Rotations measured between two writes."""
MOST = 100_000_000
Known = dict[str, Outcome | str]
"""By fingerprint: an outcome, or a reason why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A named method at some parameters, and its score on the tuning set."""

    label: str
    scheme: Scheme
    outcome: Outcome
    score: Score


def usual(geometry: RopeGeometry, length: int) -> dict[str, list[dict[str, Any]]]:
    """Grids of the usual methods that extend without lists or training.

    Variants of them (ntk_fixed, ntk_mixed, resonance) are a file's to name.
    `ntk_aware` and `dynamic_ntk` need larger factors than length / window: only their last pair reaches the factor.
    """
    s = length / geometry.window().length
    factors = {"ntk_aware": (s, 1.5 * s, 2 * s, 3 * s), "dynamic_ntk": (1.0, 2.0, 4.0)}
    methods = ("linear", "ntk_aware", "ntk_by_parts", "dynamic_ntk", "yarn", "llama3", "longrope", "mrrope")
    grids = {name: [{"factor": float(f)} for f in factors.get(name, (s, 1.5 * s, 2 * s))] for name in methods}
    theta = geometry.rope_theta
    return grids | {"abf": [{"rope_theta": theta * f} for f in (s, s**1.5, s**2)]}


def asked_for(methods: dict[str, Any], geometry: RopeGeometry, length: int) -> dict[Configuration, Scheme]:
    """The file's configurations and the usual ones, each with its scheme for `length`, `none` first.

    A usual one that this geometry refuses is left out.

    Raises:
        RopewalkError: this geometry refuses one of the file's.
    """
    own = tuple(configurations(methods))
    found = {each: resolve(geometry, each.method, each.params, length).scheme for each in own}
    seen = {each.label for each in own}
    for configuration in configurations(usual(geometry, length)):
        if configuration.label not in seen:
            with contextlib.suppress(MethodError):
                found[configuration] = resolve(geometry, configuration.method, configuration.params, length).scheme
    return found


def best_of_each(named: dict[Configuration, Candidate]) -> dict[str, Candidate]:
    """Each method at its best parameters: the lowest objective, `none` among them."""
    found: dict[str, Candidate] = {}
    for configuration, candidate in named.items():
        known = found.get(configuration.method)
        if known is None or candidate.score.objective < known.score.objective:
            found[configuration.method] = candidate
    return found


def first(candidates: Sequence[Candidate]) -> Candidate:
    """The best, within the bound if there is one."""
    return min(candidates, key=lambda c: (not c.score.met, c.score.objective))


def groups(scene: Scene, known: Known) -> list[list[Scheme]]:
    """Named schemes that are not known yet, as they go through the model together."""
    experiment, geometry = scene.prepared.asked.experiment, scene.prepared.asked.geometry
    wanted = asked_for(experiment.methods, geometry, scene.length).values()
    left = {scheme.fingerprint: scheme for scheme in wanted if scheme.fingerprint not in known}
    schemes = list(left.values())
    return [schemes[start : start + GROUP] for start in range(0, len(schemes), GROUP)]


def outcomes(scene: Scene, bench: Bench, schemes: Sequence[Scheme]) -> Known:
    """What schemes do on the tuning set."""
    found = bench.outcomes(schemes, scene.window, scene.short)
    return dict(zip((scheme.fingerprint for scheme in schemes), found, strict=True))


def measured(
    scene: Scene, bench: Callable[[], Bench], out: Path, told: Callable[[int, int], None]
) -> dict[Configuration, Candidate]:
    """Every named configuration with losses, scored on the tuning set; those that are in the file are not run again."""
    left = groups(scene, read(out))
    total = sum(map(len, left))
    for place, group in enumerate(left):
        told(GROUP * place, total)
        keep(out, outcomes(scene, bench(), group))
    experiment, geometry = scene.prepared.asked.experiment, scene.prepared.asked.geometry
    return _scored(scene, asked_for(experiment.methods, geometry, scene.length), read(out))


def left_out(scene: Scene, out: Path) -> dict[str, str]:
    """Configurations that have no losses on the tuning set and so are not judged, and why."""
    known, asked = read(out), scene.prepared.asked
    wanted = asked_for(asked.experiment.methods, asked.geometry, scene.length)
    found = {each.label: known[scheme.fingerprint] for each, scheme in wanted.items()}
    return {label: why for label, why in found.items() if isinstance(why, str)}


def ended(scene: Scene, bench: Callable[[], Bench], out: Path, scheme: Scheme) -> Outcome | str:
    """What a descent ended at does on the tuning set; measured if it is not in the file."""
    if (known := read(out).get(scheme.fingerprint)) is not None:
        return known
    found = outcomes(scene, bench(), [scheme])
    if isinstance(outcome := found[scheme.fingerprint], Outcome):
        keep(out, found)
    return outcome


def _scored(scene: Scene, wanted: dict[Configuration, Scheme], known: Known) -> dict[Configuration, Candidate]:
    found: dict[Configuration, Candidate] = {}
    none = next(scheme for each, scheme in wanted.items() if each.label == "none")
    unscaled = known[none.fingerprint]
    if isinstance(unscaled, str):
        raise StoreError(
            f"tune: the model as it ships has no losses on the tuning set ({unscaled}); give a shorter --length."
        )
    for configuration, scheme in wanted.items():
        outcome = known[scheme.fingerprint]
        if isinstance(outcome, Outcome):
            scored = score(outcome, unscaled, scene.goal)
            found[configuration] = Candidate(label=configuration.label, scheme=scheme, outcome=outcome, score=scored)
    return found


@dataclass(frozen=True, slots=True)
class _Without:
    """A method that has no losses."""

    reason: str


_FILE = TypeAdapter(dict[str, Outcome | _Without], config=ConfigDict(ser_json_inf_nan="constants"))


def read(out: Path) -> Known:
    """What is measured already.

    Raises:
        StoreError: the file is damaged, or holds what no tuning writes.
    """
    try:
        found = _FILE.validate_json(read_inside(out, FILE, MOST), strict=True)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise StoreError(f"{out / FILE}: is damaged ({reason}); remove it, and it is measured again.") from None
    return {each: outcome.reason if isinstance(outcome, _Without) else outcome for each, outcome in found.items()}


def keep(out: Path, found: Known) -> Known:
    """Add to what is kept; returns all of it."""
    known = read(out) | found
    plain = {each: _Without(outcome) if isinstance(outcome, str) else outcome for each, outcome in known.items()}
    write_whole(out, FILE, _FILE.dump_json(plain))
    return known
