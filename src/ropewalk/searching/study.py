"""The search itself, on Optuna: candidates in generations, every one of them stored in SQLite before the next is asked.

A study's coordinates lie in [-1, 1] around the best named method: 0 is where a search starts. Which candidate comes
next depends on the seed, its number and the stored results alone, so a search that was killed goes on as if it had not
been: a candidate that was asked for and not answered is asked for again with the same coordinates.
"""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ropewalk.errors import ExperimentError, MethodError, StoreError
from ropewalk.rope import Rotation
from ropewalk.searching.families import Family, Values
from ropewalk.searching.objective import Goal, Outcome, Score, score
from ropewalk.searching.race import Rival

if TYPE_CHECKING:
    import optuna

DATABASE = "search.sqlite"
IDENTITY = "identity"
RESULT = "result"
STRIDE = 1_000_003
"""Apart from each other lie the random numbers of two seeds."""

Measure = Callable[[Sequence[Rotation], Callable[[Outcome], bool] | None], list[Outcome | str]]
"""Rotations to outcomes, or the reason why there is none; candidates that leave early have fewer documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One evaluated rotation.

    Attributes:
        label: of a named method, else empty.
        values: its coordinates in the family, if it came from there.
        dropped: racing ended it, and its objective is an estimate from the documents it saw.
    """

    label: str
    rotation: Rotation
    outcome: Outcome
    score: Score
    objective: float
    dropped: bool
    values: tuple[float, ...] = ()

    @property
    def won(self) -> bool:
        """It may be chosen: complete, and within all bounds."""
        return not self.dropped and self.score.met


def library() -> Any:
    """Optuna, told to be silent.

    Raises:
        ExperimentError: it is not installed.
    """
    try:
        import cmaes  # noqa: F401
        import optuna
    except ImportError:
        raise ExperimentError("search: needs the packages optuna and cmaes: pip install 'ropewalk[search]'.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def storage(directory: Path) -> Any:
    """The database of a search. Its log is written ahead, so that a commit need not wait for the disk: a killed process
    loses nothing, a machine without power the last candidates.

    Raises:
        StoreError: it, or what SQLite writes beside it, is a link or no file.
    """

    for end in ("", "-wal", "-shm", "-journal"):
        path = directory / (DATABASE + end)
        if os.path.lexists(path) and not (stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_nlink == 1):
            raise StoreError(f"{path}: is a link or no file, which no search has; choose another --out.")

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(directory / DATABASE, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    return library().storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect})


@contextmanager
def opened(directory: Path) -> Iterator[Any]:
    """The same, closed at the end."""
    found = storage(directory)
    try:
        yield found
    finally:
        found.engine.dispose()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hunt:
    """One seed's search around one start.

    Attributes:
        unscaled: what `none` did, for short costs.
        first: the best named candidate, which every other races against.
        front: look for a front of long loss and short cost (`nsga2`, `tpe`) and not for one number (`cmaes`).
    """

    family: Family
    start: Values
    goal: Goal
    unscaled: Outcome
    first: Rival
    documents: int
    sampler: str
    seed: int

    @property
    def front(self) -> bool:
        return self.sampler != "cmaes"

    @property
    def generation(self) -> int:
        """Candidates per generation: Hansen's default for CMA-ES."""
        return 4 + math.floor(3 * math.log(len(self.family.names)))

    def generation_of(self, number: int) -> int:
        """The first candidate of the generation that this one is in; candidate 0, the start, is one of its own."""
        return 0 if number == 0 else number - (number - 1) % self.generation

    def left(self, outcome: Outcome) -> bool:
        """Whether racing ended it: some of its documents or its probes are missing."""
        return len(outcome.long_D) < self.documents or (self.goal.probes and not outcome.retrieval_P)

    def rotation(self, values: Sequence[float]) -> Rotation:
        """At coordinates in [-1, 1]."""
        return self.family.rotation(self.start + self.family.reach * np.array(values))

    def sampler_for(self, number: int) -> Any:
        """A sampler whose random numbers belong to this seed and candidate."""
        samplers, seed = library().samplers, (self.seed * STRIDE + number) % 2**31
        if self.sampler == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=2 * self.generation)
        if self.sampler == "tpe":
            return samplers.TPESampler(seed=seed)
        return samplers.CmaEsSampler(seed=seed, popsize=self.generation, warn_independent_sampling=False)


def study_of(store: Any, name: str, *, objectives: int = 1) -> optuna.Study:
    """A study by name, made if it is not there."""
    return library().create_study(
        study_name=name, storage=store, load_if_exists=True, directions=["minimize"] * objectives
    )


def run(
    study: optuna.Study,
    hunt: Hunt,
    starts: Sequence[Values],
    measure: Measure,
    more: Callable[[int], bool],
    told: Callable[[list[Candidate]], None],
) -> None:
    """Ask, measure and tell until `more(candidates so far)` says no.

    Args:
        study: new, or of the same hunt.
        hunt: what is looked for.
        starts: coordinates of named methods, asked for first by samplers that keep a population.
        measure: the device.
        more: whether another generation is wanted.
        told: called with all candidates after each generation.
    """
    if not study.trials:
        for values in [np.zeros(len(hunt.start)), *(starts if hunt.front else [])]:
            study.enqueue_trial(dict(zip(hunt.family.names, np.clip(values, -1, 1).tolist(), strict=True)))
    while True:
        told(candidates(study, hunt))
        asked = _unanswered(study, hunt)
        if not asked and not more(_answered(study)):
            return
        asked += _ask(study, hunt, _room(_numbers(study), hunt.generation, begun=bool(asked)))
        _evaluate(study, hunt, asked, measure)


def _numbers(study: optuna.Study) -> int:
    """Candidates asked for so far: those that wait in the queue are not yet."""
    return sum(trial.state.name != "WAITING" for trial in study.get_trials(deepcopy=False))


def _answered(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _room(asked: int, generation: int, *, begun: bool) -> int:
    """How many to ask for: to the end of the generation, whose first is the start alone.

    A generation that was begun and is all asked for is answered before the next. Generations are whole, whatever the
    evaluations, so that a search that goes on later asks for the same candidates.
    """
    left = 1 if asked == 0 else -(asked - 1) % generation
    return generation if left == 0 and not begun else left


def _unanswered(study: optuna.Study, hunt: Hunt) -> list[Any]:
    """Candidates that were asked for and not answered, as a kill leaves them."""
    running = library().trial.TrialState.RUNNING
    return [_again(study, hunt, trial) for trial in study.get_trials(states=(running,))]


def _again(study: optuna.Study, hunt: Hunt, frozen: Any) -> Any:
    study.sampler = hunt.sampler_for(frozen.number)
    return _suggest(library().trial.Trial(study, frozen._trial_id), hunt)


def _ask(study: optuna.Study, hunt: Hunt, count: int) -> list[Any]:
    asked = []
    for _ in range(count):
        study.sampler = hunt.sampler_for(_numbers(study))
        asked.append(_suggest(study.ask(), hunt))
    return asked


def _suggest(trial: Any, hunt: Hunt) -> Any:
    for name in hunt.family.names:
        trial.suggest_float(name, -1.0, 1.0)
    return trial


def _evaluate(study: optuna.Study, hunt: Hunt, asked: list[Any], measure: Measure) -> None:
    """Measure candidates as one batch and tell the study; a rotation that cannot be, or has no losses, is a failure."""
    started = time.monotonic()
    rival = best_rival(hunt, candidates(study, hunt, before=hunt.generation_of(asked[0].number)))
    rotations: list[Rotation] = []
    wrong: dict[int, str] = {}
    for trial in asked:
        try:
            rotations.append(hunt.rotation([trial.params[name] for name in hunt.family.names]))
        except MethodError as error:
            wrong[trial.number] = str(error)
    leaves = None if hunt.front else partial(rival.excludes, goal=hunt.goal)
    able = [trial for trial in asked if trial.number not in wrong]
    outcomes = dict(zip((t.number for t in able), measure(rotations, leaves) if able else [], strict=True))
    each = (time.monotonic() - started) / len(asked)
    for trial in asked:
        _tell(study, hunt, trial, outcomes.get(trial.number, wrong.get(trial.number)), rival, each)


def _tell(
    study: optuna.Study, hunt: Hunt, trial: Any, outcome: Outcome | str | None, rival: Rival, wall_s: float
) -> None:
    """Store what a candidate did, then tell the sampler."""
    if not isinstance(outcome, Outcome):
        trial.set_user_attr(RESULT, {"reason": outcome, "wall_s": wall_s})
        study.tell(trial, state=library().trial.TrialState.FAIL)
        return
    found = score(outcome, hunt.unscaled, hunt.goal)
    dropped = hunt.left(outcome)
    objective = rival.estimate(outcome, hunt.goal) if dropped else found.objective
    trial.set_user_attr(RESULT, {"outcome": outcome.plain(), "objective": objective, "wall_s": wall_s})
    study.tell(trial, objectives(found) if hunt.front else objective)


def objectives(found: Score) -> list[float]:
    """What a front is drawn over: everything that counts for the long side, and the short cost; nats."""
    return [found.objective, math.log1p(found.short_cost)]


def best_rival(hunt: Hunt, known: Sequence[Candidate]) -> Rival:
    """The best so far, within all bounds if there is one; the first named one until then."""
    found = [hunt.first, *(Rival(outcome=c.outcome, score=c.score) for c in known if not c.dropped)]
    return min(found, key=lambda rival: (not rival.score.met, rival.score.objective))


def candidates(study: optuna.Study, hunt: Hunt, before: float = math.inf) -> list[Candidate]:
    """Everything that was measured, in order, made again from what is stored; only numbers below `before`."""
    complete = library().trial.TrialState.COMPLETE
    found = []
    for trial in study.get_trials(deepcopy=False, states=(complete,)):
        if trial.number >= before:
            continue
        values = tuple(trial.params[name] for name in hunt.family.names)
        result = trial.user_attrs[RESULT]
        outcome = Outcome.read(result["outcome"])
        found.append(
            Candidate(
                label="",
                rotation=hunt.rotation(values),
                outcome=outcome,
                score=score(outcome, hunt.unscaled, hunt.goal),
                objective=float(result["objective"]),
                dropped=hunt.left(outcome),
                values=values,
            )
        )
    return found
