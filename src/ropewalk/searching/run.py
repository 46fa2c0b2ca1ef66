"""Run or resume a search in its directory, then judge what it found and write it down.

DIR/search.jsonl    every candidate
DIR/winner.json     the rotation, for the method `searched`
DIR/search.json     the result; search.md and search.html say it, search.png draws it
DIR/two-window.json parameters of `longrope`: unscaled inside the window, the winner beyond it
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ropewalk.errors import StoreError
from ropewalk.execution.run import first_difference, locked
from ropewalk.experiment.plan import Configuration
from ropewalk.experiment.prepare import Progress, prepare, versions
from ropewalk.experiment.schema import Experiment
from ropewalk.experiment.store import require_empty, writing
from ropewalk.files import write_whole
from ropewalk.methods.rotation_file import NOTE, Divisors
from ropewalk.models import LoadedModel
from ropewalk.report.write import require_drawing
from ropewalk.rope import Rotation
from ropewalk.scoring import Split, fast, split
from ropewalk.scoring.budget import pays_to_compile
from ropewalk.searching import asked, drawing, judging, named, record, study
from ropewalk.searching.asked import Request, Scene
from ropewalk.searching.bench import Bench
from ropewalk.searching.lines import escaped, lines
from ropewalk.searching.objective import Outcome
from ropewalk.searching.page import page
from ropewalk.searching.race import Rival
from ropewalk.searching.record import Record
from ropewalk.searching.result import Hunted, chosen, result
from ropewalk.searching.study import Candidate, Hunt
from ropewalk.searching.two_window import short_of, two_windows
from ropewalk.searching.verdict import UNSCALED, WINNER

SHORT = "short of two windows"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A finished search: its directory, the winning rotation, and the result as in search.json."""

    directory: Path
    rotation: Rotation
    result: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """For `searched: {file: ...}`."""
        return self.directory / "winner.json"


def search(
    experiment: Experiment,
    request: Request,
    out: Path,
    *,
    loaded: LoadedModel | None = None,
    progress: Progress | None = None,
) -> Found:
    """Search for a rotation, or resume, and judge the best.

    Args:
        experiment: model, documents, methods to beat beside the usual ones, metrics, and its section `search`.
        request: length, how long to search, seeds.
        out: directory; new, empty, or of the same search.
        loaded: a model in memory to measure.
        progress: told of every generation.

    Raises:
        RopewalkError: the experiment cannot be searched on, `out` holds something else, or no candidate meets the
            bounds.
    """
    report = progress or (lambda what, done, total: None)
    study.library()
    require_drawing()
    known = asked.checked(experiment, request, loaded)
    if not (out / record.FILE).is_file():
        require_empty(out)
    report("loading the model", 0, 0)
    scene = asked.scene(prepare(known), request)
    with locked(out), record.opened(out) as store:
        _begin(store, out, asked.identity(scene))
        model = scene.prepared.model.model
        compiled = pays_to_compile(model, asked.tokens(scene))
        with fast(model, split(model), compiled=compiled, longest=max(scene.lengths)) as parts:
            return _search(scene, store, out, parts, report)


def _begin(store: Record, out: Path, identity: Mapping[str, Any]) -> None:
    """Record what is searched for, or check that a resumed search is the same."""
    known = store.identity
    if known is None:
        store.begin(identity)
    elif known != json.loads(json.dumps(identity)):
        raise StoreError(
            f"{out}: holds another search ({first_difference(known, identity)}); choose another --out, it is never "
            "overwritten."
        )


def _search(scene: Scene, store: Record, out: Path, parts: Split, report: Progress) -> Found:
    bench = judging.search_bench(scene, parts)
    known = _named(scene, store, bench, report)
    hunted = [_hunt(scene, store, bench, known, index, report) for index in range(scene.request.repeats)]
    winner = chosen(known, hunted, scene.goal)
    report("judging", 0, 0)
    geometry = scene.prepared.asked.geometry
    best = {each.label: each.rotation for each in named.best_of_each(known).values()}
    seeds = {h.label: h.best.rotation for h in hunted} if len(hunted) > 1 else {}
    rows = {WINNER: winner.rotation} | seeds | {SHORT: short_of(geometry, winner.rotation)} | best
    judged = judging.verdict(scene, judging.judge_bench(scene, parts), rows)
    found = result(scene, known, hunted, winner, judged) | {"versions": dict(versions())}
    charts, looks = drawing.drawing(found, geometry, best | seeds | {WINNER: winner.rotation})
    shown = page(found, _title(scene), charts, looks).encode()
    _write(scene, out, winner.rotation, found, {"search.html": shown, "search.png": drawing.picture(charts, looks)})
    return Found(directory=out, rotation=winner.rotation, result=found)


def _named(scene: Scene, store: Record, bench: Bench, report: Progress) -> dict[Configuration, Candidate]:
    """The named methods, measured once for all repeats."""
    experiment, geometry = scene.prepared.asked.experiment, scene.prepared.asked.geometry
    wanted = named.asked_for(experiment.methods, geometry, scene.request.length)

    def told(done: int, total: int) -> None:
        if scene.request.budget_s is None:
            report("named methods", done, total + _candidates(scene.request))
        else:  # which counts seconds
            report(f"named methods, {done} of {total}", 0, 0)

    named.measure_all(store, wanted, _measure(scene, bench), told)
    return named.stored(store, wanted, scene.goal)


def _measure(scene: Scene, bench: Bench) -> study.Measure:
    def measure(rotations: Sequence[Rotation], leaves: Callable[[Outcome], bool] | None) -> list[Outcome | str]:
        return bench.outcomes(rotations, scene.window, scene.short, leaves)

    return measure


def _hunt(
    scene: Scene, store: Record, bench: Bench, known: Mapping[Configuration, Candidate], index: int, report: Progress
) -> Hunted:
    """One repeat: from the best named method that the family knows, until the evaluations or the time are used up."""
    request, family = scene.request, scene.family
    starts = {c: s for c, each in known.items() if (s := family.start(c, each.rotation)) is not None}
    if not starts:
        raise StoreError(f"search: {family.names} has no start among the methods; name the refined one in methods.")
    first = min(starts, key=lambda c: (not known[c].won, known[c].objective))
    leader = named.first(list(known.values()))
    hunt = Hunt(
        family=family,
        start=starts[first],
        goal=scene.goal,
        unscaled=next(c.outcome for c in known.values() if c.label == UNSCALED),
        first=Rival(outcome=leader.outcome, score=leader.score),
        documents=len(scene.parts.search) // scene.windows,
        sampler=scene.section.sampler,
        seed=request.seed + index,
    )
    made = study.study_of(store, f"seed {hunt.seed}", objectives=2 if hunt.front else 1)
    clock = _Clock(
        before=_spent(store, made.name), budget=None if request.budget_s is None else request.budget_s / request.repeats
    )

    def more(count: int) -> bool:
        return clock.left() if clock.budget is not None else count < request.evaluations

    def told(candidates: list[Candidate]) -> None:
        best = named.first([leader, *(c for c in candidates if not c.dropped)])
        what = f"seed {hunt.seed}: {len(candidates)} candidates, best {best.objective:.4f}"
        if clock.budget is not None:
            report(what, int(index * clock.budget + min(clock.spent(), clock.budget)), int(request.budget_s or 0))
        else:
            done = index * request.evaluations + min(len(candidates), request.evaluations)
            report(what, len(known) + done, len(known) + _candidates(request))

    around = [(start - hunt.start) / family.reach for start in starts.values()]
    study.run(made, hunt, around, _measure(scene, bench), more, told)
    candidates = study.candidates(made, hunt)
    best = named.first([c for c in candidates if not c.dropped] or [leader])
    return Hunted(seed=hunt.seed, best=best, candidates=tuple(candidates), wall_s=_spent(store, made.name))


def _candidates(request: Request) -> int:
    """Of all repeats together, so that the time left is that of the whole search."""
    return request.repeats * request.evaluations


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """Seconds spent on a search, those before it was resumed included; `budget` is None where nothing counts them."""

    before: float
    budget: float | None
    started: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "started", time.monotonic())

    def spent(self) -> float:
        return self.before + time.monotonic() - self.started

    def left(self) -> bool:
        return self.budget is not None and self.spent() < self.budget


def _spent(store: Record, name: str) -> float:
    """Seconds that the recorded candidates of a study took."""
    return sum(answer.wall_s for answer in store.of(name).values())


def _write(scene: Scene, out: Path, winner: Rotation, found: Mapping[str, Any], pages: Mapping[str, bytes]) -> None:
    geometry, length, note = scene.prepared.asked.geometry, scene.request.length, _title(scene)
    texts = {
        "winner.json": _json(Divisors.of(geometry, winner).plain() | {NOTE: note}),
        "two-window.json": _json(two_windows(geometry, short_of(geometry, winner), winner, length)),
        "search.json": _json(found),
        "search.md": "\n".join(lines(escaped(found))) + "\n",
    }
    with writing(out):
        for name, data in ({name: text.encode() for name, text in texts.items()} | dict(pages)).items():
            write_whole(out, name, data)


def _title(scene: Scene) -> str:
    model = scene.prepared.model.provenance
    return f"{model.id}, {model.weights_sha256[:16]}, window {scene.window}, searched for {scene.request.length} tokens"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=_number) + "\n"


def _number(value: Any) -> Any:
    """numpy's scalars as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value).__name__)
