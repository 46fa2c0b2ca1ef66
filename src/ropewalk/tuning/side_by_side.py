"""A tuning over several processes of one machine: seeds side by side, then the judge's passes; the driver has no model.

Seeds take turns in stretches, so that three of them on two GPUs take as long as one and a half. A worker that dies
gives its stretch back, which goes on from the last step that is in its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ropewalk.errors import ModelError, StoreError
from ropewalk.execution import processes
from ropewalk.execution.dispatch import Dispatcher
from ropewalk.execution.executor import Done, Fleet, Joined
from ropewalk.execution.identity import first_difference
from ropewalk.experiment.prepare import Asked, Progress
from ropewalk.scoring import Failure
from ropewalk.tuning import named
from ropewalk.tuning.asked import Request
from ropewalk.tuning.course import Found
from ropewalk.tuning.objective import Outcome
from ropewalk.tuning.portions import Descend, Measure, Share, Stand, TuningJob


def resolved(fleet: Fleet, request: Request) -> Fleet:
    """With the number of workers: as many as there are seeds, as far as there are GPUs for them."""
    seeds = min(request.repeats, len(processes.visible()) // fleet.gpus_per_model)
    return replace(fleet, workers=max(1, seeds) if fleet.workers is None else fleet.workers)


def alone(fleet: Fleet) -> bool:
    """Whether one worker with all that there is will do: this process."""
    return fleet.workers == 1 and fleet.gpus_per_model in (1, len(processes.visible()))


@contextmanager
def crew(known: Asked, request: Request, out: Path, fleet: Fleet) -> Iterator[TuningCrew]:
    """Processes that are gone after the block.

    Raises:
        RopewalkError: more of them than GPUs, or a model in memory.
    """
    processes.require_sent(known)
    with processes.crewed(TuningJob.of(known, request, out), fleet) as made:
        yield TuningCrew(on=made, request=request, out=out)


@dataclass(slots=True, kw_only=True, eq=False)
class TuningCrew:
    """Workers of a tuning, as its driver leads them."""

    on: Dispatcher
    request: Request
    out: Path
    identity: Mapping[str, Any] = field(default_factory=dict)

    def first(self) -> Mapping[str, Any]:
        """The identity of the tuning, as the first worker says it."""
        opening: Any = self.on.first().opening
        self.identity = opening
        return self.identity

    def finished(self, report: Progress) -> Found:
        """Everything done, and the result, written.

        Raises:
            RopewalkError: what a worker refuses; a worker that sees another model; a share that killed two of them.
        """
        self._named(report)
        self._descents(report)
        shares: list[Share] = self.on.ask("judged")
        for done, _ in enumerate(self._each(shares)):
            report("judging", done + 1, len(shares))
        found: Found = self.on.ask("finished")
        return replace(found, directory=self.out)

    def _named(self, report: Progress) -> None:
        shares: list[Share] = self.on.ask("named")
        for done, (_, found) in enumerate(self._each(shares)):
            named.keep(self.out, found)
            report("named methods", done + 1, len(shares))

    def _descents(self, report: Progress) -> None:
        stands: dict[int, Stand] = {}
        for task, found in self._each([Share((Descend(seed),)) for seed in self.request.seeds]):
            if isinstance(task, Measure):
                named.keep(self.out, {name: each for name, each in found.items() if isinstance(each, Outcome)})
                continue
            stands[task.seed] = found
            if found.scheme is None:
                self.on.more(Share((Descend(task.seed, found.done),)))
            elif found.scheme.fingerprint not in named.read(self.out):
                self.on.more(Share((Measure((found.scheme,)),)))
            done, steps = sum(each.done for each in stands.values()), max(each.steps for each in stands.values())
            report(f"seed {task.seed}: loss {found.loss:.4f}", done, self.request.repeats * steps)

    def _each(self, shares: Sequence[Share]) -> Iterator[tuple[Any, Any]]:
        """Every task with what came of it."""
        for event in self.on.map(shares):
            if isinstance(event, Joined):
                self._require_same(event)
            elif isinstance(event, Done):
                for task, found in event.outcomes:
                    if isinstance(found, Failure):
                        raise ModelError(
                            f"tune: {found.reason}; what was done is kept, and the same command goes on from there."
                        )
                    yield task, found

    def _require_same(self, joined: Joined) -> None:
        """Refuse a worker that would tune something else."""
        opening: Any = joined.opening
        if opening != self.identity:
            raise StoreError(
                f"{joined.name}: tunes something else than the first worker "
                f"({first_difference(self.identity, opening)}); leave the model's files alone, and run again."
            )
