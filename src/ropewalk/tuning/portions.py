"""What of a tuning other processes do: schemes on the tuning set, stretches of a descent, the judge's passes.

Each is what one process alone would put through the model at once, so its numbers are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ropewalk.execution.lease import Job
from ropewalk.experiment.prepare import Asked
from ropewalk.experiment.schema import Tune
from ropewalk.scheme import Scheme
from ropewalk.scoring import Split
from ropewalk.tuning import named
from ropewalk.tuning.asked import Request, Way
from ropewalk.tuning.bench import Bench
from ropewalk.tuning.course import Course, Found, Methods, begun, rows
from ropewalk.tuning.kept import KeptBench
from ropewalk.tuning.loss import Loss
from ropewalk.tuning.state import State

STRETCH_S = 20.0
"""Of a descent, between two words of its worker: whoever says nothing is ended, and descents take turns."""


@dataclass(frozen=True, slots=True)
class Measure:
    """Schemes on the tuning set, in one batch."""

    schemes: tuple[Scheme, ...]


@dataclass(frozen=True, slots=True)
class Descend:
    """A stretch of a descent, which has taken so many steps."""

    way: Way
    done: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """Every row of the verdict over one of the judge's documents."""

    index: int


@dataclass(frozen=True, slots=True)
class Prompted:
    """A scheme's answers to the judge's prompts of a kind."""

    prompts: str
    scheme: Scheme


Task = Measure | Descend | Document | Prompted


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker takes at once; nobody estimates what it costs."""

    tasks: tuple[Task, ...]
    cost: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stand:
    """Where a descent stands after a stretch: its loss, and at its end the scheme."""

    done: int
    steps: int
    loss: float
    scheme: Scheme | None


class TuningLease:
    """A process that holds the model, as the driver of a tuning talks to it; all that it does is in files or sent."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self._stack = ExitStack()
        self._quick: Split | None = None
        self._kept: Mapping[str, KeptBench] | None = None
        self._judged: tuple[Scheme, ...] = ()

    def opening(self) -> Mapping[str, Any]:
        return self.course.identity

    def layout(self, shares: Sequence[Share], workers: int) -> list[Share]:
        """The shares as they are: each is whole batches already."""
        return list(shares)

    def named(self) -> list[Share]:
        """Named methods that are not measured yet."""
        return [
            Share((Measure(tuple(g)),)) for g in named.groups(self.course.tuning.scene, named.read(self.course.out))
        ]

    def judged(self) -> list[Share]:
        """The judge's passes; what is kept already costs nothing."""
        schemes, judges = self._rows(), self._judges()
        documents = len(next(iter(judges.values())).bench.documents)
        asked = [
            Prompted(prompts, scheme) for prompts, kept in judges.items() for scheme in schemes if kept.bench.trials
        ]
        return [Share((task,)) for task in (*map(Document, range(documents)), *asked)]

    def run(self, share: Share) -> list[tuple[Task, Any]]:
        return [(task, self._done(task)) for task in share.tasks]

    def finished(self) -> Found:
        """The result, of what all others left in files."""
        self._slow()
        return self.course.finished()

    def _done(self, task: Task) -> Any:
        if isinstance(task, Measure):
            return named.outcomes(self.course.tuning.scene, self._bench(), task.schemes)
        if isinstance(task, Descend):
            return self._descend(task.way)
        if isinstance(task, Document):
            schemes = self._rows()
            next(iter(self._judges().values())).losses(schemes, task.index)
        else:
            self._judges()[task.prompts].answers([task.scheme])
        return None

    def _descend(self, way: Way) -> Stand:
        self._slow()
        losses: list[float] = []
        weights = self.course.tuning.weights

        def told(state: State, loss: Loss) -> None:
            losses.append(loss.total(weights))

        scheme, state = self.course.descent(self._methods(), way, told, pause_s=STRETCH_S)
        loss = losses[-1] if losses else float("nan")
        return Stand(done=state.done, steps=state.steps, loss=loss, scheme=scheme if state.over else None)

    def _methods(self) -> Methods:
        return self.course.methods(self._bench)

    def _bench(self) -> Bench:
        return self.course.tuning_bench(self._fast())

    def _rows(self) -> tuple[Scheme, ...]:
        """The schemes that are judged, each once, in the order in which one process would take them."""
        if not self._judged:
            self._slow()
            methods = self._methods()
            found = self.course.found(methods, self.course.descents(methods), self._bench)
            self._judged = tuple({s.fingerprint: s for s in rows(self.course.tuning, methods, found).values()}.values())
        return self._judged

    def _judges(self) -> Mapping[str, KeptBench]:
        if self._kept is None:
            self._kept = {prompts: kept for prompts, (_, kept) in self.course.judges(self._fast()).items()}
        return self._kept

    def _fast(self) -> Split:
        if self._quick is None:
            self._quick = self._stack.enter_context(self.course.quick())
        return self._quick

    def _slow(self) -> None:
        """As it was loaded: no gradient goes through what scores fast."""
        self._stack.close()
        self._quick = self._kept = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TuningJob:
    """What workers of a tuning are made of; they share its directory with their driver."""

    job: Job
    section: Tune | None
    request: Request
    out: Path

    @classmethod
    def of(cls, known: Asked, request: Request, out: Path) -> TuningJob:
        section = known.experiment.tune
        return cls(job=Job.of(known, exact=False), section=section, request=request, out=out.absolute())

    def asked(self) -> Asked:
        """The experiment as its driver asked it; a run knows nothing of its section `tune`."""
        known = self.job.asked()
        return replace(known, experiment=known.experiment.model_copy(update={"tune": self.section}))

    def leased(self) -> AbstractContextManager[TuningLease]:
        """The model loaded inside the block."""
        return _leased(self)


@contextmanager
def _leased(job: TuningJob) -> Iterator[TuningLease]:
    course = begun(job.asked(), job.request, job.out, lambda what, done, total: None)
    lease = TuningLease(course)
    try:
        yield lease
    finally:
        lease._slow()
