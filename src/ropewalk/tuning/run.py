"""Tune or resume a tuning in its directory, then judge what it found and write it down.

DIR/identity.json       what is tuned; another tuning is refused
DIR/named.json          the named methods on the tuning set
DIR/seed-S.safetensors  where each seed's descent stands
DIR/judged/             every judged scheme on the judge's documents and prompts
DIR/winner.safetensors  the scheme, for the method `tuned`
DIR/tune.json           the result; tune.md says it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropewalk.errors import ExperimentError, StoreError
from ropewalk.execution.identity import first_difference
from ropewalk.execution.lock import locked
from ropewalk.experiment.guards import require_empty, writing
from ropewalk.experiment.prepare import Progress, prepare, versions
from ropewalk.experiment.schema import Experiment
from ropewalk.files import read_inside, write_whole
from ropewalk.methods.near_far import near_far
from ropewalk.models import LoadedModel
from ropewalk.scheme import Positions, Scheme
from ropewalk.scoring import Split, fast, split
from ropewalk.stats.measured import NONE
from ropewalk.tuning import asked, descent, judging, memory, named, parameters, winner
from ropewalk.tuning.asked import Request, Tuning
from ropewalk.tuning.bench import Bench
from ropewalk.tuning.forward import opened
from ropewalk.tuning.kept import KeptBench
from ropewalk.tuning.lines import lines
from ropewalk.tuning.loss import Loss
from ropewalk.tuning.markdown import escaped
from ropewalk.tuning.named import Candidate, best_of_each, first
from ropewalk.tuning.objective import Outcome, score
from ropewalk.tuning.result import TRUNCATE, TUNED, Tuned, chosen, result
from ropewalk.tuning.state import State
from ropewalk.tuning.verdict import Verdict

IDENTITY = "identity.json"
MOST = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A finished tuning: its directory, the winning scheme, and the result as in tune.json."""

    directory: Path
    scheme: Scheme
    result: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """For `tuned: {file: ...}`."""
        return self.directory / winner.FILE


def tune(
    experiment: Experiment,
    request: Request,
    out: Path,
    *,
    loaded: LoadedModel | None = None,
    progress: Progress | None = None,
) -> Found:
    """Tune, or resume, and judge.

    Args:
        experiment: model, documents, methods to beat beside the usual ones, metrics, and its section `tune`.
        request: length, how long to tune, seeds.
        out: directory; new, empty, or of the same tuning.
        loaded: a model in memory.
        progress: told of every step.

    Raises:
        RopewalkError: the experiment cannot be tuned on, or `out` holds something else.
    """
    report = progress or (lambda what, done, total: None)
    known = asked.checked(experiment, request, loaded)
    if not (out / IDENTITY).is_file():
        require_empty(out)
    report("loading the model", 0, 0)
    prepared = prepare(known)
    model = prepared.model.model
    memory.require(model, request.length)
    parts = split(model)
    tuning = asked.tuning(prepared, request)
    with locked(out):
        _begin(out, json.loads(json.dumps(asked.identity(tuning))))
        with fast(model, parts, compiled=False, longest=max(tuning.scene.lengths)) as quick:
            bench = judging.tuning_bench(tuning.scene, quick)
            methods = named.measured(tuning.scene, bench, out, lambda done, total: report("named methods", done, total))
        start = first([each for each in methods.values() if each.label != NONE])
        ends = [_descent(tuning, parts, methods, start, seed, out, report) for seed in request.seeds]
        report("judging", 0, 0)
        with fast(model, parts, compiled=False, longest=max(tuning.scene.lengths)) as quick:
            bench = judging.tuning_bench(tuning.scene, quick)
            found = [_scored(tuning, bench, methods, seed, *end) for seed, end in zip(request.seeds, ends, strict=True)]
            judged = _verdicts(tuning, quick, _judged(tuning, methods, found), out, report)
        told = result(tuning, methods, start, found, judged) | {"versions": dict(versions())}
        _write(tuning, out, chosen(found), told)
    return Found(directory=out, scheme=chosen(found).scheme, result=told)


def _begin(out: Path, identity: Mapping[str, Any]) -> None:
    """Record what is tuned, or check that a resumed tuning is the same."""
    with writing(out):
        if not (out / IDENTITY).is_file():
            write_whole(out, IDENTITY, _json(identity))
            return
        try:
            known = json.loads(read_inside(out, IDENTITY, MOST))
        except (ValueError, RecursionError):
            raise StoreError(f"{out / IDENTITY}: is no JSON; choose another --out.") from None
    if known != identity:
        raise StoreError(
            f"{out}: holds another tuning ({first_difference(known, identity)}); choose another --out, it is never "
            "overwritten."
        )


def _descent(
    tuning: Tuning,
    parts: Split,
    methods: Mapping[Any, Candidate],
    start: Candidate,
    seed: int,
    out: Path,
    report: Progress,
) -> tuple[Scheme, State]:
    """One seed's descent from the best named method."""
    request, geometry = tuning.request, tuning.scene.prepared.asked.geometry
    seconds = request.steps is None
    index = request.seeds.index(seed)

    def told(state: State, loss: Loss) -> None:
        report(
            f"seed {seed}: loss {loss.total(request.weights):.4f}",
            index * state.steps + state.done,
            request.repeats * state.steps,
        )

    with opened(tuning.scene.prepared.model.model, parts, tuning.turns, request.near) as model:
        begins = parameters.start(
            geometry, start.rotation, parameters.shape_of(tuning.what, tuning.turns), parts.head.weight.device
        )
        task = descent.Task(
            model=model,
            material=tuning.material,
            weights=request.weights,
            none=next(each.rotation for each in methods.values() if each.label == NONE),
            what=tuning.what,
            seed=seed,
            out=out,
            name=f"seed-{seed}.safetensors",
        )
        state = descent.run(task, begins, steps=request.steps, budget_s=request.seconds if seconds else None, told=told)
    if not state.done:
        raise ExperimentError(f"tune: {state.stopped}.")
    pairs = geometry.rotary_dim // 2
    if request.near is not None:
        return near_far(geometry, request.near, query=Positions(), far=begins.rotation(geometry)), state
    return Scheme(rotation=begins.rotation(geometry), gains=begins.query_gains(tuning.turns.heads, pairs)), state


def _scored(
    tuning: Tuning, bench: Bench, methods: Mapping[Any, Candidate], seed: int, scheme: Scheme, state: State
) -> Tuned:
    """What a seed ended at, on the tuning set."""
    scene = tuning.scene
    outcome = bench.outcomes([scheme], scene.window, scene.short)[0]
    if not isinstance(outcome, Outcome):
        raise ExperimentError(f"tune: seed {seed} has no losses on the tuning set: {outcome}.")
    unscaled = next(each.outcome for each in methods.values() if each.label == NONE)
    return Tuned(seed=seed, scheme=scheme, state=state, score=score(outcome, unscaled, scene.goal))


def _verdicts(
    tuning: Tuning, parts: Split, rows: Mapping[str, Scheme], out: Path, report: Progress
) -> dict[str, Verdict]:
    """On the judge's documents, once for each kind of prompts."""
    found = {}
    for prompts, scene in asked.judges(tuning).items():
        kept = KeptBench(bench=judging.judge_bench(scene, parts), out=out, prompts=prompts, told=report)
        found[prompts] = judging.verdict(scene, kept, rows)
    return found


def _judged(tuning: Tuning, methods: Mapping[Any, Candidate], found: list[Tuned]) -> dict[str, Scheme]:
    """Rows of the verdict: what won, every seed where there are several, `truncate`, and each method at its best."""
    best = {each.label: Scheme(rotation=each.rotation) for each in best_of_each(dict(methods)).values()}
    seeds = {each.label: each.scheme for each in found} if len(found) > 1 else {}
    truncated = Scheme(rotation=best[NONE].rotation, context=max(2, tuning.scene.window // 2))
    return {TUNED: chosen(found).scheme} | seeds | {TRUNCATE: truncated} | best


def _write(tuning: Tuning, out: Path, won: Tuned, told: Mapping[str, Any]) -> None:
    scene = tuning.scene
    model = scene.prepared.model.provenance
    facts = {
        "model": model.id,
        "weights_sha256": model.weights_sha256,
        "window": scene.window,
        "length": scene.length,
        "what": tuning.what,
        "seed": won.seed,
        "steps": won.state.done,
    }
    with writing(out):
        write_whole(out, winner.FILE, winner.content(won.scheme, scene.prepared.asked.geometry, tuning.turns, facts))
        write_whole(out, "tune.json", _json(told))
        write_whole(out, "tune.md", ("\n".join(lines(escaped(told))) + "\n").encode())


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, default=float) + "\n").encode()
