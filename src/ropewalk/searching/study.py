"""The search itself, on Optuna: candidates in generations, every one of them recorded before the next is asked.

A study's coordinates lie in [-1, 1] around the best named method: 0 is where a search starts. Which candidate comes
next depends on the seed, its number and the results alone, so a search that was killed goes on as if it had not been:
every candidate is asked for again with the same coordinates, and measured if the record (`record`) has no answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ropewalk.errors import ExperimentError, MethodError, StoreError
from ropewalk.rope import Rotation
from ropewalk.searching.families import Family, Values
from ropewalk.searching.objective import Goal, Outcome, Score, score
from ropewalk.searching.race import Rival
from ropewalk.searching.record import Answer, Record

if TYPE_CHECKING:
    import optuna

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


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A study in memory, and the record that holds its answers.

    Attributes:
        name: of the study in the record.
    """

    record: Record
    name: str
    study: optuna.Study

    def answer(self, trial: Any, hunt: Hunt) -> Answer | None:
        """What the record says of a candidate that is asked for; None if it is new.

        Raises:
            StoreError: it was another one there.
        """
        known = self.record.of(self.name).get(trial.number)
        if known is not None and list(known.values) != _values(trial, hunt):
            raise StoreError(
                f"{self.record.directory}: candidate {trial.number} of {self.name!r} is not the one there that is "
                "asked for here; go on with the optuna and cmaes that began this search, or choose another --out."
            )
        return known

    @property
    def behind(self) -> bool:
        """Whether the record holds answers that the study was not told yet."""
        return len(self.record.of(self.name)) > _answered(self.study)


def study_of(record: Record, name: str, *, objectives: int = 1) -> Kept:
    """A new study; `run` tells it what the record holds."""
    return Kept(record, name, library().create_study(directions=["minimize"] * objectives))


def run(
    kept: Kept,
    hunt: Hunt,
    starts: Sequence[Values],
    measure: Measure,
    more: Callable[[int], bool],
    told: Callable[[list[Candidate]], None],
) -> None:
    """Ask, measure and tell until `more(candidates so far)` says no.

    Args:
        kept: a new study, and the record of the same hunt.
        hunt: what is looked for.
        starts: coordinates of named methods, asked for first by samplers that keep a population.
        measure: the device.
        more: whether another generation is wanted.
        told: called with all candidates after each generation.
    """
    study = kept.study
    if not study.trials:
        for values in [np.zeros(len(hunt.start)), *(starts if hunt.front else [])]:
            study.enqueue_trial(dict(zip(hunt.family.names, np.clip(values, -1, 1).tolist(), strict=True)))
    while True:
        told(candidates(kept, hunt))
        if not kept.behind and not more(_answered(study)):
            return
        # whole generations, the start one of its own, so that a search that goes on asks for the same candidates
        _evaluate(kept, hunt, _ask(study, hunt, hunt.generation if _numbers(study) else 1), measure)


def _numbers(study: optuna.Study) -> int:
    """Candidates asked for so far: those that wait in the queue are not yet."""
    return sum(trial.state.name != "WAITING" for trial in study.get_trials(deepcopy=False))


def _answered(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


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


def _values(trial: Any, hunt: Hunt) -> list[float]:
    return [trial.params[name] for name in hunt.family.names]


def _evaluate(kept: Kept, hunt: Hunt, asked: list[Any], measure: Measure) -> None:
    """Measure candidates that have no answer as one batch and tell the study of all; a rotation that cannot be, or has
    no losses, is a failure."""
    known = {trial.number: answer for trial in asked if (answer := kept.answer(trial, hunt)) is not None}
    rival = best_rival(hunt, candidates(kept, hunt, before=hunt.generation_of(asked[0].number)))
    _measure(kept, hunt, [trial for trial in asked if trial.number not in known], rival, measure)
    for trial in asked:
        _settle(kept.study, hunt, trial, kept.record.of(kept.name)[trial.number])


def _measure(kept: Kept, hunt: Hunt, asked: list[Any], rival: Rival, measure: Measure) -> None:
    started = time.monotonic()
    rotations: list[Rotation] = []
    wrong: dict[int, str] = {}
    for trial in asked:
        try:
            rotations.append(hunt.rotation(_values(trial, hunt)))
        except MethodError as error:
            wrong[trial.number] = str(error)
    leaves = None if hunt.front else partial(rival.excludes, goal=hunt.goal)
    able = [trial for trial in asked if trial.number not in wrong]
    outcomes = dict(zip((t.number for t in able), measure(rotations, leaves) if able else [], strict=True))
    for trial in asked:
        each = (time.monotonic() - started) / len(asked)
        _tell(kept, hunt, trial, outcomes.get(trial.number, wrong.get(trial.number)), rival, each)


def _tell(kept: Kept, hunt: Hunt, trial: Any, outcome: Outcome | str | None, rival: Rival, wall_s: float) -> None:
    """Record what a candidate did."""
    common = {"study": kept.name, "candidate": trial.number, "values": tuple(_values(trial, hunt)), "wall_s": wall_s}
    if not isinstance(outcome, Outcome):
        kept.record.add(Answer(**common, reason=outcome))
        return
    left = hunt.left(outcome)
    objective = rival.estimate(outcome, hunt.goal) if left else score(outcome, hunt.unscaled, hunt.goal).objective
    kept.record.add(Answer(**common, outcome=outcome, objective=float(objective)))


def _settle(study: optuna.Study, hunt: Hunt, trial: Any, answer: Answer) -> None:
    """Tell the sampler what a candidate did."""
    if answer.outcome is None:
        study.tell(trial, state=library().trial.TrialState.FAIL)
    elif hunt.front:
        study.tell(trial, objectives(score(answer.outcome, hunt.unscaled, hunt.goal)))
    else:
        study.tell(trial, answer.objective)


def objectives(found: Score) -> list[float]:
    """What a front is drawn over: everything that counts for the long side, and the short cost; nats."""
    return [found.objective, math.log1p(found.short_cost)]


def best_rival(hunt: Hunt, known: Sequence[Candidate]) -> Rival:
    """The best so far, within all bounds if there is one; the first named one until then."""
    found = [hunt.first, *(Rival(outcome=c.outcome, score=c.score) for c in known if not c.dropped)]
    return min(found, key=lambda rival: (not rival.score.met, rival.score.objective))


def candidates(kept: Kept, hunt: Hunt, before: float = math.inf) -> list[Candidate]:
    """Everything that was measured and that the study was told, in order; only numbers below `before`."""
    complete = library().trial.TrialState.COMPLETE
    found = []
    for trial in kept.study.get_trials(deepcopy=False, states=(complete,)):
        answer = kept.record.of(kept.name)[trial.number]
        if trial.number >= before or (outcome := answer.outcome) is None or answer.objective is None:
            continue
        found.append(
            Candidate(
                label="",
                rotation=hunt.rotation(answer.values),
                outcome=outcome,
                score=score(outcome, hunt.unscaled, hunt.goal),
                objective=answer.objective,
                dropped=hunt.left(outcome),
                values=answer.values,
            )
        )
    return found
