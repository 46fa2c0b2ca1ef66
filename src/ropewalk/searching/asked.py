"""A search as asked for, checked, and everything that it knows before its first candidate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ropewalk.errors import ExperimentError
from ropewalk.experiment.prepare import Asked, Prepared, ask
from ropewalk.experiment.schema import Experiment, Search
from ropewalk.metrics import registered
from ropewalk.metrics.probes import Probing, probing
from ropewalk.models import LoadedModel
from ropewalk.searching import families
from ropewalk.searching.families import Family
from ropewalk.searching.objective import Goal
from ropewalk.searching.split import Parts, split

RETRIEVAL = 0.3
"""Weight of the probes where the file asks for a metric that gives some and does not say."""


UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """`90s`, `5m` or `1h` to seconds.

    Raises:
        ExperimentError: anything else.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.isdecimal() or not 0 < int(number) < 10**6:
        raise ExperimentError(f"--budget {text}: must be a whole number with s, m or h, such as 90s or 5m.")
    return float(int(number) * UNITS[unit])


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A search as asked for.

    Attributes:
        length: N, tokens.
        evaluations: candidates per repeat, to the end of a generation, unless there is a budget.
        budget_s: seconds of searching in all, shared by the repeats; None for none.
        seed: of the first repeat; the others count on.
        max_short_cost: per cent; None takes the file's.
    """

    length: int
    evaluations: int = 500
    budget_s: float | None = None
    seed: int = 0
    max_short_cost: float | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        for name in ("evaluations", "repeats", "budget_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ExperimentError(f"search: {name}={value} must be more than 0; leave it out for the default.")
        if self.seed < 0:
            raise ExperimentError(f"search: seed={self.seed} must be 0 or more.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Everything that a search knows before its first candidate."""

    prepared: Prepared
    request: Request
    section: Search
    goal: Goal
    parts: Parts
    family: Family
    window: int
    short: tuple[int, ...]
    probing: Probing | None
    probed: tuple[int, ...]

    @property
    def windows(self) -> int:
        """Of each document."""
        return len(self.prepared.tokens) // len({tokens.document.id for tokens in self.prepared.tokens})

    @property
    def lengths(self) -> tuple[int, ...]:
        """Judged: those of the file, and the searched one."""
        return tuple(self.prepared.asked.experiment.lengths)


def checked(experiment: Experiment, request: Request, loaded: LoadedModel | None) -> Asked:
    """The experiment with the searched length among its own, checked as far as that needs no weights.

    Raises:
        RopewalkError: as `ask`; a length inside the window, or losses asked for that nothing gives.
    """
    lengths = sorted({*experiment.lengths, request.length})
    section = experiment.search or Search()
    known = ask(experiment.model_copy(update={"lengths": lengths, "search": section}), loaded)
    window = known.geometry.window().length
    if request.length <= window:
        raise ExperimentError(
            f"--length {request.length} lies inside the trained window of {window} tokens, where there is nothing to "
            f"extend; give a length above {window}."
        )
    asked = probing(experiment.asked())
    if asked is not None and (wrong := asked.probes.check(asked.options)):
        raise ExperimentError(f"metrics.{asked.metric.name}.{wrong}.")
    if asked is None and ((section.weights.retrieval or 0) > 0 or section.max_retrieval is not None):
        known = " or ".join(metric.name for metric in registered().values() if metric.probes)
        raise ExperimentError(f"search: retrieval counts, but metrics names no {known}; add {known}: {{}} to metrics.")
    probed = [n for n in lengths if window <= n <= request.length]
    for length in section.probe_lengths or ():
        if length not in probed:
            raise ExperimentError(
                f"search.probe_lengths: {length} is none of the lengths from the window to the searched one; choose "
                f"from {', '.join(map(str, probed))}."
            )
    longppl = experiment.options("longppl")
    if section.weights.keys > 0 and (longppl is None or longppl.spans is None):
        raise ExperimentError("search.weights.keys counts key tokens; add longppl: {spans: builtin} to metrics.")
    return known


def scene(prepared: Prepared, request: Request) -> Scene:
    """Split, goal and family.

    Raises:
        ExperimentError: too few documents, or a family without anything to vary.
    """
    experiment, geometry = prepared.asked.experiment, prepared.asked.geometry
    section, asked = experiment.search or Search(), probing(experiment.asked())
    window = geometry.window().length
    probed = section.probe_lengths or [n for n in experiment.lengths if window <= n <= request.length]
    cost = section.max_short_cost if request.max_short_cost is None else request.max_short_cost
    weights = section.weights
    retrieval = weights.retrieval if weights.retrieval is not None else RETRIEVAL if asked else 0.0
    return Scene(
        prepared=prepared,
        request=request,
        section=section,
        goal=Goal(
            long=weights.long,
            retrieval=retrieval,
            keys=weights.keys,
            max_short_cost=None if cost is None else cost / 100,
            max_retrieval=section.max_retrieval,
        ),
        parts=split(
            [tokens.document for tokens in prepared.tokens],
            experiment.seed,
            experiment.lengths if asked else (),
            section.probes,
            asked.probes.count(asked.options) if asked else 0,
            experiment.lengths[-1],
            asked.probes.keys if asked else None,
        ),
        family=families.make(section, geometry, request.length),
        window=window,
        short=tuple(n for n in experiment.lengths if n <= window) or (window,),
        probing=asked,
        probed=tuple(sorted(set(probed))) if asked else (),
    )


def identity(scene: Scene) -> dict[str, Any]:
    """What makes two searches the same: everything but how long they may go on."""
    asked, model = scene.prepared.asked, asdict(scene.prepared.model.provenance)
    return {
        "experiment": asked.experiment.resolved(),
        "search": scene.section.model_dump(mode="json")
        | {"seed": scene.request.seed, "repeats": scene.request.repeats},
        "goal": asdict(scene.goal),
        "length": scene.request.length,
        "documents": [tokens.document.sha256 for tokens in scene.prepared.tokens],
        "model": {name: model[name] for name in ("weights_sha256", "dtype", "device")},
    }


def tokens(scene: Scene) -> int:
    """Positions that the whole search feeds, roughly: for the choice whether to compile."""
    documents = len(scene.parts.search) * scene.request.length
    probes = scene.section.probes * sum(scene.probed) if scene.goal.probes else 0
    return (documents + probes) * scene.request.evaluations * scene.request.repeats
