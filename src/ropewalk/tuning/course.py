"""A tuning in one process, part by part: what its directory holds already is not done again, whoever did it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ropewalk.errors import ExperimentError
from ropewalk.experiment.guards import writing
from ropewalk.experiment.plan import Configuration
from ropewalk.experiment.prepare import Asked, Progress, prepare, versions
from ropewalk.files import write_whole
from ropewalk.methods.near_far import near_far
from ropewalk.scheme import Positions, Scheme
from ropewalk.scoring import Split, fast, split
from ropewalk.stats.measured import NONE
from ropewalk.tuning import asked, descent, judging, memory, named, parameters, winner
from ropewalk.tuning.asked import Request, Tuning, Way
from ropewalk.tuning.bench import Bench
from ropewalk.tuning.descent import Told
from ropewalk.tuning.forward import opened
from ropewalk.tuning.kept import KeptBench
from ropewalk.tuning.lines import lines
from ropewalk.tuning.markdown import escaped
from ropewalk.tuning.named import Candidate, best_of_each, first
from ropewalk.tuning.objective import Outcome, score
from ropewalk.tuning.order import say_before_products
from ropewalk.tuning.result import TRUNCATE, TUNED, Tuned, chosen, result
from ropewalk.tuning.scene import Scene
from ropewalk.tuning.split import unique
from ropewalk.tuning.state import State

Methods = Mapping[Configuration, Candidate]


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


def begun(known: Asked, request: Request, out: Path, report: Progress) -> Course:
    """The model loaded, the sides split.

    Raises:
        RopewalkError: a length that does not fit, weights that cannot be tuned, too few documents.
    """
    say_before_products()
    prepared = prepare(known)
    memory.require(prepared.model.model, request.length)
    parts = split(prepared.model.model)
    return Course(tuning=asked.tuning(prepared, request), parts=parts, out=out, report=report)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """A tuning whose model is loaded, and where it is kept."""

    tuning: Tuning
    parts: Split
    out: Path
    report: Progress

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two tunings the same, JSON values."""
        found: dict[str, Any] = json.loads(json.dumps(asked.identity(self.tuning)))
        return found

    @contextmanager
    def quick(self) -> Iterator[Split]:
        """The model as fast as it scores; no gradient goes through it inside the block."""
        longest = max(self.tuning.scene.lengths)
        with fast(self.tuning.scene.prepared.model.model, self.parts, compiled=False, longest=longest) as found:
            yield found

    @contextmanager
    def lazy_bench(self) -> Iterator[Callable[[], Bench]]:
        """What gives the tuning set's bench; the model is made fast when it is first asked for one."""
        with ExitStack() as stack:
            yield cache(lambda: self.tuning_bench(stack.enter_context(self.quick())))

    def methods(self, bench: Callable[[], Bench]) -> Methods:
        """Every named method on the tuning set."""
        return named.measured(
            self.tuning.scene, bench, self.out, lambda done, total: self.report("named methods", done, total)
        )

    def descent(self, methods: Methods, way: Way, told: Told, **pause: float) -> tuple[Scheme, State]:
        """One descent from the best named method, as far as it is."""
        tuning, request, geometry = self.tuning, self.tuning.request, self.tuning.scene.prepared.asked.geometry
        with opened(tuning.scene.prepared.model.model, self.parts, tuning.turns, way.near) as model:
            begins = parameters.start(
                geometry,
                start(methods).scheme.rotation,
                parameters.shape_of(tuning.what, tuning.turns),
                self.parts.head.weight.device,
            )
            task = descent.Task(
                model=model,
                material=tuning.material,
                weights=tuning.weights,
                none=next(each.scheme.rotation for each in methods.values() if each.label == NONE),
                what=tuning.what,
                seed=way.seed,
                out=self.out,
                name=way.file,
            )
            seconds = request.seconds if request.steps is None else None
            state = descent.run(task, begins, steps=request.steps, budget_s=seconds, told=told, **pause)
        if not state.done:
            raise ExperimentError(f"tune: {state.stopped}.")
        pairs = geometry.rotary_dim // 2
        rotation, gains = begins.rotation(geometry), begins.query_gains(tuning.turns.heads, pairs)
        if way.near is not None:
            return near_far(geometry, way.near, query=Positions(), far=rotation, gains=gains), state
        return Scheme(rotation=rotation, gains=gains), state

    def descents(self, methods: Methods) -> dict[Way, tuple[Scheme, State]]:
        """Every one, to its end."""
        request, found = self.tuning.request, dict[Way, tuple[Scheme, State]]()
        for index, way in enumerate(request.ways):

            def told(state: State, loss: Any, index: int = index, way: Way = way) -> None:
                said = f"{way.label}: loss {loss.total(self.tuning.weights):.4f}"
                self.report(said, index * state.steps + state.done, len(request.ways) * state.steps)

            found[way] = self.descent(methods, way, told)
        return found

    def found(
        self, methods: Methods, ends: Mapping[Way, tuple[Scheme, State]], bench: Callable[[], Bench]
    ) -> list[Tuned]:
        """What every descent ended at, with its score on the tuning set."""
        scene, found = self.tuning.scene, list[Tuned]()
        unscaled = next(each.outcome for each in methods.values() if each.label == NONE)
        for way, (scheme, state) in ends.items():
            outcome = named.ended(scene, bench, self.out, scheme)
            if not isinstance(outcome, Outcome):
                raise ExperimentError(f"tune: {way.label} has no losses on the tuning set: {outcome}.")
            found.append(Tuned(way=way, scheme=scheme, state=state, score=score(outcome, unscaled, scene.goal)))
        return found

    def tuning_bench(self, quick: Split) -> Bench:
        return judging.tuning_bench(self.tuning.scene, quick)

    def judges(self, quick: Split) -> dict[str, tuple[Scene, KeptBench]]:
        """Once for each kind of prompts: the judge's documents, and what is kept of them."""
        return {
            prompts: (
                scene,
                KeptBench(bench=judging.judge_bench(scene, quick), out=self.out, prompts=prompts, told=self.report),
            )
            for prompts, scene in asked.judges(self.tuning).items()
        }

    def finished(self) -> Found:
        """All that is left, and the result, written."""
        with self.lazy_bench() as bench:
            methods = self.methods(bench)
        ends = self.descents(methods)
        self.report("judging", 0, 0)
        with self.quick() as quick:
            found = self.found(methods, ends, lambda: self.tuning_bench(quick))
            judged_rows = rows(self.tuning, methods, found)
            judged = {
                prompts: judging.verdict(scene, kept, judged_rows)
                for prompts, (scene, kept) in self.judges(quick).items()
            }
        told = result(self.tuning, methods, start(methods), found, judged)
        told |= {"left_out": named.left_out(self.tuning.scene, self.out), "versions": dict(versions())}
        self._write(chosen(found), told)
        return Found(directory=self.out, scheme=chosen(found).scheme, result=told)

    def _write(self, won: Tuned, told: Mapping[str, Any]) -> None:
        tuning, scene, out = self.tuning, self.tuning.scene, self.out
        model = scene.prepared.model.provenance
        facts = {
            "model": model.id,
            "weights_sha256": model.weights_sha256,
            "window": scene.window,
            "length": scene.length,
            "what": tuning.what,
            "seed": won.way.seed,
            "steps": won.state.done,
            "tuned_on": unique(scene.prepared.tokens[i].document.sha256 for i in scene.parts.search),
        }
        content = winner.content(won.scheme, scene.prepared.asked.geometry, tuning.turns, facts)
        with writing(out):
            write_whole(out, winner.FILE, content)
            write_whole(out, "tune.json", json_bytes(told))
            write_whole(out, "tune.md", ("\n".join(lines(escaped(told))) + "\n").encode())


def start(methods: Methods) -> Candidate:
    """Where descents begin: the best named method that only turns."""
    return first([each for each in methods.values() if each.label != NONE and each.scheme.only_rotates])


def rows(tuning: Tuning, methods: Methods, found: Sequence[Tuned]) -> dict[str, Scheme]:
    """Of the verdict: what won, every descent where there are several, `truncate`, and each method at its best."""
    best = {each.label: each.scheme for each in best_of_each(dict(methods)).values()}
    seeds = {each.label: each.scheme for each in found} if len(found) > 1 else {}
    truncated = Scheme(rotation=best[NONE].rotation, context=max(2, tuning.scene.window // 2))
    return {TUNED: chosen(found).scheme} | seeds | {TRUNCATE: truncated} | best


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, default=float) + "\n").encode()
