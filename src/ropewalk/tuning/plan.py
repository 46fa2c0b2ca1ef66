"""What a tuning needs and how long it takes, before anything runs: memory from the configuration, time from a probe."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ropewalk.experiment.memory import amount
from ropewalk.experiment.prepare import Prepared, Progress, prepare
from ropewalk.experiment.schema import Experiment
from ropewalk.methods.none import shipped
from ropewalk.models import LoadedModel
from ropewalk.models.size import read_size, size_of_loaded
from ropewalk.scoring import split
from ropewalk.scoring.memory import weight_bytes
from ropewalk.tuning import asked, descent, memory, named, parameters
from ropewalk.tuning.asked import Request, Tuning
from ropewalk.tuning.draws import WHOLE, draw, timed
from ropewalk.tuning.forward import opened
from ropewalk.tuning.loss import descend
from ropewalk.tuning.order import repeatable, say_before_products

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Attributes:
    what: is tuned.
    documents: tuned on, and judged on.
    weights_bytes, step_bytes: in memory.
    device: "cpu" or "cuda".
    step_s: of one step, probed; of the mean one, where some are fed pieces alone.
    pieces: most steps are fed a part of their text.
    steps: of each descent, as many as the budget holds.
    descents: how many.
    pass_tokens: that named methods and judgement feed beside the descents.
    pass_s: what those take at the pace of one pass of the whole length, which is the slowest.
    workers: share all of it.
    """

    what: str
    documents: tuple[int, int]
    weights_bytes: int
    step_bytes: int
    device: str
    step_s: float
    pieces: bool
    steps: int
    descents: int
    pass_tokens: int
    pass_s: float
    workers: int

    @property
    def seconds(self) -> float:
        """Of everything but loading the model."""
        return (self.descents * self.steps * self.step_s + self.pass_s) / self.workers


def plan(
    experiment: Experiment,
    request: Request,
    *,
    loaded: LoadedModel | None = None,
    report: Progress = lambda what, done, total: None,
    clock: Clock = time.monotonic,
    workers: int = 1,
) -> Plan:
    """Check everything, load the model, time two steps of each kind and a pass.

    Raises:
        RopewalkError: as `tune`; a length that does not fit, before any weights are read.
    """
    known = asked.checked(experiment, request, loaded)
    size = read_size(known.spec, known.experiment.dtype) if loaded is None else size_of_loaded(loaded)
    if loaded is None:
        memory.require_size(size, request.length, known.spec.device_map)
    else:
        memory.require(loaded.model, request.length)
    report("loading the model", 0, 0)
    say_before_products()
    prepared = prepare(known)
    tuning = asked.tuning(prepared, request)
    step_s, pass_s = _probed(tuning, prepared, report, clock)
    tokens = _tokens(tuning)
    return Plan(
        what=tuning.what,
        documents=tuning.documents,
        weights_bytes=weight_bytes(size),
        step_bytes=memory.step_bytes(size, request.length),
        device=size.device,
        step_s=step_s,
        pieces=tuning.material.pieces,
        steps=request.steps or descent.affordable(request.seconds, step_s),
        descents=len(request.ways),
        pass_tokens=tokens,
        pass_s=tokens * pass_s / request.length,
        workers=workers,
    )


def _probed(tuning: Tuning, prepared: Prepared, report: Progress, clock: Clock) -> tuple[float, float]:
    """Seconds of the second of two steps of each kind, on average, and of a pass of the whole text."""
    model, geometry, request = prepared.model.model, prepared.asked.geometry, tuning.request
    parts, none = split(model), shipped(prepared.asked.geometry, request.length)
    device = parts.head.weight.device
    begins = parameters.start(geometry, none, parameters.shape_of(tuning.what, tuning.turns), device)
    window, kinds, seconds, begun = tuning.material.window, timed(tuning.material), 0.0, 0.0
    with opened(model, parts, tuning.turns, request.ways[0].near) as tunable:
        with repeatable() as order:  # as its steps will be
            for kind, (weight, steps) in enumerate(kinds):
                drawn = draw(tuning.material, request.seed, steps[0], typical=True)
                for done in range(2):
                    report("probing steps", 2 * kind + done, 2 * len(kinds))
                    begun = clock()
                    step = partial(descend, tunable, begins, drawn, window, none, tuning.weights)
                    made = partial(order.made, step, begins.clear)  # waits for its numbers
                    memory.fitted(request.length, tunable.room, made, begins.clear)
                seconds += weight * (clock() - begun)
        text, begun = torch.from_numpy(draw(tuning.material, request.seed, 0).text.ids).long().to(device), clock()
        tunable.unscaled_nll(text, none)
        return seconds / sum(weight for weight, _ in kinds), clock() - begun


def _tokens(tuning: Tuning) -> int:
    """Fed by named methods on the tuning set and by rows of the verdict, without what prompts share."""
    scene, experiment = tuning.scene, tuning.scene.prepared.asked.experiment
    methods = named.asked_for(experiment.methods, scene.prepared.asked.geometry, scene.length)
    rows = len({each.method for each in methods}) + 2 + len(tuning.request.ways)
    probes = scene.probes * sum(scene.probed)
    given = scene.probing
    count = given.probes.count(given.options) if given else 0
    trials = len(asked.judges(tuning)) * count * sum(scene.lengths)
    tuned = len(methods) * (len(scene.parts.search) * scene.length + probes)
    return tuned + rows * (len(scene.parts.judge) * scene.lengths[-1] + trials)


def lines(found: Plan, request: Request) -> list[str]:
    """The plan in sentences."""
    tuned, judged = found.documents
    needed = found.weights_bytes + found.step_bytes
    kinds = f"; one in {WHOLE} is fed all of its text, the others pieces" if found.pieces else ""
    return [
        f"{found.what} for {request.length} tokens, tuned on {tuned} documents and judged on {judged} others.",
        f"Memory: at least {amount(needed)} on {found.device}, {amount(found.weights_bytes)} of them weights; what is "
        "free beside it saves computing layers twice.",
        f"A step takes {found.step_s:.3g} s (probed{kinds}): {found.steps} steps of {found.descents} "
        f"{'descent' if found.descents == 1 else 'descents'} take {found.descents * found.steps * found.step_s:.0f} s.",
        f"Named methods and judgement feed {found.pass_tokens / 1e6:.1f} M tokens, at most {found.pass_s:.0f} s; "
        f"{found.seconds:.0f} s in all{f', by {found.workers} workers' if found.workers > 1 else ''}.",
    ]


__all__: Sequence[str] = ("Plan", "lines", "plan")
