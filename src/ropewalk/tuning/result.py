"""What a tuning found, as JSON values; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ropewalk.scheme import Scheme
from ropewalk.stats.measured import NONE
from ropewalk.tuning.asked import Tuning, Way
from ropewalk.tuning.named import Candidate, best_of_each
from ropewalk.tuning.objective import Score
from ropewalk.tuning.state import State
from ropewalk.tuning.verdict import Verdict

SCHEMA = 1
TUNED, TRUNCATE = "tuned", "truncate"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tuned:
    """What one descent ended at, and its score on the tuning set."""

    way: Way
    scheme: Scheme
    state: State
    score: Score

    @property
    def label(self) -> str:
        return f"{TUNED} {self.way.label}"


def chosen(found: Sequence[Tuned]) -> Tuned:
    """The descent with the lowest objective on the tuning set, within the bounds if one is."""
    return min(found, key=lambda each: (not each.score.met, each.score.objective))


def rivals(best: Mapping[str, Candidate], *, asked: bool) -> tuple[str, str | None]:
    """Labels of the named methods that the winner is held against: the one with the lowest perplexity beyond the window
    and, where a metric gives probes, the one whose probes' answers are likeliest; without probes the first for both.

    Both are chosen on the tuning set alone. A rival chosen for how well it does before the judge is flattered by the
    judge's own luck, and the winner is called worse than it about twice as often as said (docs/statistics.md).
    """
    scaled = [each for each in best.values() if each.label != NONE]
    other = min(scaled, key=lambda each: each.score.long).label
    probed = {each.label: each.score.retrieval for each in best.values() if each.score.retrieval is not None}
    keeper = min(probed, key=probed.__getitem__) if probed else other
    return other, keeper if asked else None


def result(
    tuning: Tuning,
    named: Mapping[Any, Candidate],
    start: Candidate,
    found: Sequence[Tuned],
    verdicts: Mapping[str, Verdict],
) -> dict[str, Any]:
    """Everything as JSON values: what was asked, what was found, how it was judged.

    Args:
        tuning: what was asked.
        named: every named configuration on the tuning set.
        start: the one that descents began at.
        found: every descent's.
        verdicts: by kind of prompts; the first is the one that counts.
    """
    judged = next(iter(verdicts.values()))
    scene, best, winner = tuning.scene, best_of_each(dict(named)), chosen(found)
    other, keeper = rivals(best, asked=judged.column is not None)
    seeds = [each.label for each in found]
    return {
        "schema": SCHEMA,
        "length": scene.length,
        "window": scene.window,
        "what": tuning.what,
        "pieces": tuning.material.pieces,
        "weights": asdict(tuning.weights),
        "goal": asdict(scene.goal),
        "split": scene.parts.plain([tokens.document for tokens in scene.prepared.tokens]),
        "start": start.label,
        "winner": _seed(winner, tuning),
        "seeds": [_seed(each, tuning) for each in found],
        "spread": judged.spread(seeds) if len(seeds) > 1 else None,
        "named": {method: {"label": each.label, **asdict(each.score)} for method, each in best.items()},
        "judge": {
            "rows": [judged.row(label) for label in judged.labels],
            "counted": judged.counted(),
            "best_named": other,
            "best_retrieval": keeper,
            "against": {label: judged.against(label) for label in judged.labels[1:]},
            "seeds": {
                seed: {label: judged.against(label, seed) for label in (other, TRUNCATE, NONE)}
                for seed in (seeds if len(seeds) > 1 else ())
            },
            "retrieval": {
                prompts: _retrieval(verdict, [each.label for each in best.values()])
                for prompts, verdict in verdicts.items()
                if verdict.column is not None
            },
        },
        "short_cost": short_cost(tuning, judged),
        "optimism": _optimism(winner, {each.label: each for each in best.values()}[other], judged, other),
    }


def _seed(found: Tuned, tuning: Tuning) -> dict[str, Any]:
    losses = found.state.losses[-max(1, found.state.done // 10) :]
    scheme = found.scheme
    gains = scheme.branches[-1].gains if scheme.branches else scheme.gains
    return {
        "label": found.label,
        "fingerprint": scheme.fingerprint,
        "near": found.way.near,
        "steps": found.state.done,
        "of": found.state.steps,
        "wall_s": found.state.wall_s,
        "stopped": found.state.stopped,
        "unordered": found.state.unordered,
        "made_by": found.state.made_by,
        "attention_factor": scheme.far.attention_factor,
        "lambda": scheme.far.divisors(tuning.scene.prepared.asked.geometry),
        "largest_gain": None if gains is None else float(np.abs(gains.log).max()),
        "last": dict(zip(("beyond", "excess", "answer"), losses.mean(axis=0).tolist(), strict=True))
        if len(losses)
        else {},
        **asdict(found.score),
    }


def _retrieval(judged: Verdict, named: Sequence[str]) -> dict[str, Any]:
    """What every row found of one kind of prompts, and the winner against the named method that found most at each
    length: chosen on the judge's own prompts, so in that method's favour."""
    assert judged.column is not None
    name, against = judged.column.name, dict[str, Any]()
    for n, block in judged.found.items():
        most = max(named, key=lambda label: block.interval(label).value)
        against[str(n)] = {"label": most} | judged.against(most)[name][str(n)]
    return {"rows": {label: judged.row(label)[name] for label in judged.labels}, "against_most": against}


def short_cost(tuning: Tuning, judged: Verdict) -> dict[str, Any]:
    """What the window pays on the judge's documents, by length, whether the promise about it is kept, and whether that
    is established: by the whole of every interval, or of the one that breaks it."""
    bound = tuning.scene.goal.max_short_cost
    ratios = judged.against(NONE)["perplexity"]
    paid = {n: ratio for n, ratio in ratios.items() if int(n) <= tuning.scene.window}
    if bound is None or not paid:
        return {"bound": bound, "kept": None, "established": None, "perplexity": paid}
    limit = 1 + bound
    if kept := all(each["value"] <= limit for each in paid.values()):
        sure = all(each["high"] is not None and each["high"] <= limit for each in paid.values())
    else:
        sure = any(each["low"] is not None and each["low"] > limit for each in paid.values())
    return {"bound": bound, "kept": kept, "established": sure, "perplexity": paid}


def _optimism(winner: Tuned, other: Candidate, judged: Verdict, label: str) -> dict[str, float]:
    seen = winner.score.long - other.score.long
    real = math.log(judged.beyond.paired(judged.labels[0], label).interval.value)
    return {"search": math.exp(seen), "judge": math.exp(real), "optimism_nats": real - seen}
