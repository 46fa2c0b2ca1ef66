"""The named methods on the tuning set, measured once and kept: the best of them is where descents start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ropewalk.errors import StoreError
from ropewalk.experiment.plan import Configuration
from ropewalk.files import read_inside, write_whole
from ropewalk.rope import Rotation
from ropewalk.searching import named
from ropewalk.searching.asked import Scene
from ropewalk.searching.bench import Bench
from ropewalk.searching.objective import Outcome, score
from ropewalk.searching.study import Candidate

FILE = "named.json"
GROUP = named.GROUP
MOST = 100_000_000
Known = dict[str, dict[str, Any]]
"""By label: an outcome's JSON values, or a reason why there is none."""


def measured(scene: Scene, bench: Bench, out: Path, told: Callable[[int, int], None]) -> dict[Configuration, Candidate]:
    """Every named configuration with losses, scored on the tuning set; those that are in the file are not run again."""
    experiment, geometry = scene.prepared.asked.experiment, scene.prepared.asked.geometry
    wanted = named.asked_for(experiment.methods, geometry, scene.request.length)
    known = _read(out)
    left = {rotation.fingerprint: rotation for rotation in wanted.values() if rotation.fingerprint not in known}
    fingerprints = list(left)
    for start in range(0, len(left), GROUP):
        told(start, len(left))
        group = fingerprints[start : start + GROUP]
        outcomes = bench.outcomes([left[each] for each in group], scene.window, scene.short)
        known |= {each: _plain(outcome) for each, outcome in zip(group, outcomes, strict=True)}
        write_whole(out, FILE, json.dumps(known).encode())
    return _scored(scene, wanted, known)


def _scored(scene: Scene, wanted: dict[Configuration, Rotation], known: Known) -> dict[Configuration, Candidate]:
    found: dict[Configuration, Candidate] = {}
    none = next(rotation for each, rotation in wanted.items() if each.label == "none")
    if (why := known[none.fingerprint].get("reason")) is not None:
        raise StoreError(
            f"tune: the model as it ships has no losses on the tuning set ({why}); give a shorter --length."
        )
    unscaled = Outcome.read(known[none.fingerprint])
    for configuration, rotation in wanted.items():
        if "reason" in known[rotation.fingerprint]:
            continue
        outcome = Outcome.read(known[rotation.fingerprint])
        scored = score(outcome, unscaled, scene.goal)
        found[configuration] = Candidate(
            label=configuration.label,
            rotation=rotation,
            outcome=outcome,
            score=scored,
            objective=scored.objective,
            dropped=False,
        )
    return found


def _plain(outcome: Outcome | str) -> dict[str, Any]:
    return outcome.plain() if isinstance(outcome, Outcome) else {"reason": outcome}


def _read(out: Path) -> Known:
    try:
        return json.loads(read_inside(out, FILE, MOST))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{out / FILE}: is damaged ({str(error)[:100]}); remove it, and it is measured again."
        ) from None
