"""What a search found: the winner among all candidates, and the result as JSON values; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ropewalk.errors import ExperimentError
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.searching.asked import Scene
from ropewalk.searching.families import log_divisors
from ropewalk.searching.named import best_of_each, first
from ropewalk.searching.objective import Goal
from ropewalk.searching.race import saving
from ropewalk.searching.study import Candidate
from ropewalk.searching.verdict import UNSCALED, WINNER, Verdict
from ropewalk.stats.effective import pareto_front

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunted:
    """What one seed found: its best candidate, and all that it measured; `wall_s` of device time."""

    seed: int
    best: Candidate
    candidates: tuple[Candidate, ...]
    wall_s: float

    @property
    def label(self) -> str:
        return f"{WINNER} seed {self.seed}"

    @property
    def moved(self) -> bool:
        """It found something better than where it began, which is 0 in all coordinates."""
        return any(self.best.values)


def chosen(named: Mapping[Any, Candidate], hunted: Sequence[Hunted], goal: Goal) -> Candidate:
    """The candidate with the lowest objective that meets all bounds, a named one if nothing beats it.

    Raises:
        ExperimentError: nothing but the model as it ships meets the bounds, or does better than it.
    """
    every = [*(c for c in named.values() if c.label != UNSCALED), *(c for h in hunted for c in h.candidates)]
    best = first([c for c in every if not c.dropped])
    if not best.score.met:
        closest = min((c for c in every if not c.dropped), key=lambda c: c.score.excess)
        raise ExperimentError(f"no candidate of {len(every)} meets {_bounds(goal)}; {_came(closest)}; {LOOSEN}.")
    unscaled = next(c for c in named.values() if c.label == UNSCALED)
    if unscaled.won and unscaled.objective <= best.objective:
        raise ExperimentError(
            f"no candidate of {len(every)} within {_bounds(goal) or 'no bounds'} does better than the model as it "
            f"ships; {_came(best)}; {LOOSEN}."
        )
    return best


def rivals(best: Mapping[str, Candidate], *, asked: bool) -> tuple[str, str | None]:
    """Labels of the named methods that the winner is held against: the one with the lowest perplexity beyond the window
    and, where a metric gives probes, the one whose probes' answers are likeliest; without probes the first for both.

    Both are chosen on the search set alone. A rival chosen for how well it does before the judge is flattered by the
    judge's own luck, and the winner is called worse than it about twice as often as said (docs/statistics.md).
    """
    scaled = [each for each in best.values() if each.label != UNSCALED]
    other = min(scaled, key=lambda each: each.score.long).label
    probed = {each.label: each.score.retrieval for each in best.values() if each.score.retrieval is not None}
    keeper = min(probed, key=probed.__getitem__) if probed else other
    return other, keeper if asked else None


LOOSEN = "loosen the bounds in another --out, or let this search go on with more --evaluations"


def _bounds(goal: Goal) -> str:
    found = []
    if goal.max_short_cost is not None:
        found.append(f"max_short_cost {100 * goal.max_short_cost:g} %")
    if goal.max_retrieval is not None:
        found.append(f"max_retrieval {goal.max_retrieval:g} nats")
    return " and ".join(found)


def _came(candidate: Candidate) -> str:
    found, name = candidate.score, candidate.label or "a searched one"
    retrieval = "" if found.retrieval is None else f", retrieval {found.retrieval:.3g} nats"
    return (
        f"closest came {name} with a short cost of {100 * found.short_cost:.3g} %{retrieval} and a perplexity of "
        f"{math.exp(found.long):.4g} beyond the window"
    )


def result(
    scene: Scene, named: Mapping[Any, Candidate], hunted: Sequence[Hunted], winner: Candidate, judged: Verdict
) -> dict[str, Any]:
    """Everything as JSON values: what was asked, what was found, how it was judged."""
    best = best_of_each(dict(named))
    every = [c for h in hunted for c in h.candidates]
    other, retrieval = rivals(best, asked=judged.column is not None)
    geometry = scene.prepared.asked.geometry
    return {
        "schema": SCHEMA,
        "length": scene.request.length,
        "window": scene.window,
        "goal": asdict(scene.goal),
        "split": scene.parts.plain([tokens.document for tokens in scene.prepared.tokens]),
        "family": {"name": scene.section.family, "coordinates": list(scene.family.names)},
        "evaluations": {h.label: len(h.candidates) for h in hunted} | {"named": len(named)},
        "wall_s": sum(h.wall_s for h in hunted),
        "saving": saving([len(c.outcome.long_D) for c in every], len(scene.parts.search) // scene.windows),
        "saving_probes": saving([bool(c.outcome.retrieval_P) for c in every], 1) if scene.goal.probes else None,
        "winner": candidate(winner) | {"named": winner.label},
        "named": {method: candidate(each) | {"label": each.label} for method, each in best.items()},
        "repeats": [repeat(geometry, h, winner.rotation) for h in hunted],
        "agreement": agreement(geometry, hunted, judged) if len(hunted) > 1 else None,
        "judge": {
            "rows": [judged.row(label) for label in judged.labels],
            "counted": judged.counted(),
            "best_named": other,
            "best_retrieval": retrieval,
            "against": {label: judged.against(label) for label in judged.labels if label != WINNER},
        },
        "optimism": optimism(winner, {each.label: each for each in best.values()}[other], judged, other),
        "front": front([*named.values(), *every]),
    }


def candidate(found: Candidate) -> dict[str, Any]:
    """A candidate as JSON values."""
    return {
        "fingerprint": found.rotation.fingerprint,
        "attention_factor": found.rotation.attention_factor,
        **asdict(found.score),
        "values": list(found.values),
    }


def repeat(geometry: RopeGeometry, found: Hunted, winner: Rotation) -> dict[str, Any]:
    """One seed's best, whether that is more than its start, and how far its rotation is from the winner's."""
    return candidate(found.best) | {
        "label": found.label,
        "evaluations": len(found.candidates),
        "moved": found.moved,
        "apart": apart(geometry, found.best.rotation, winner),
    }


def apart(geometry: RopeGeometry, one: Rotation, other: Rotation) -> float:
    """The largest |ln lambda| between two rotations of pairs that all turn."""
    ours, theirs = (log_divisors(geometry, each, math.inf) for each in (one, other))
    return float(np.abs(ours - theirs).max())


def agreement(geometry: RopeGeometry, hunted: Sequence[Hunted], judged: Verdict) -> dict[str, Any]:
    """Whether different seeds found the same rotation: how many they found, and the largest differences between two.

    Seeds that ended where they began agree on nothing, so `moved` counts those that did not.
    """
    pairs = [(a.best.rotation, b.best.rotation) for a, b in combinations(hunted, 2)]
    return {
        "seeds": len(hunted),
        "moved": sum(h.moved for h in hunted),
        "rotations": len({h.best.rotation.fingerprint for h in hunted}),
        "apart": max(apart(geometry, a, b) for a, b in pairs),
        "apart_attention": max(abs(math.log(a.attention_factor / b.attention_factor)) for a, b in pairs),
        **judged.spread([h.label for h in hunted]),
    }


def optimism(winner: Candidate, other: Candidate, judged: Verdict, label: str) -> dict[str, float]:
    """How much better than the best named method the winner looked on the search set, and is: ratios of perplexity
    beyond the window, and the difference of their logarithms."""
    seen = winner.score.long - other.score.long
    real = math.log(judged.beyond.paired(WINNER, label).interval.value)
    return {"search": math.exp(seen), "judge": math.exp(real), "optimism_nats": real - seen}


def front(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Every complete candidate by short cost and perplexity beyond the window on the search set, and who is on the
    front of the two."""
    complete = [c for c in candidates if not c.dropped]
    on = set(pareto_front([c.score.short_cost for c in complete], [c.score.long for c in complete]))
    return [
        {"label": c.label, "cost": c.score.short_cost, "beyond": math.exp(c.score.long), "front": i in on}
        | {"retrieval": c.score.retrieval, "objective": c.objective}
        for i, c in enumerate(complete)
    ]
