"""A worker's lease: its model loaded once, the canary at both ends, and what a run asks of it in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from ropewalk.corpus import Document
from ropewalk.errors import ModelError
from ropewalk.execution import canary, spans
from ropewalk.execution.layout import laid_out
from ropewalk.execution.worker import Result, Worker, ready
from ropewalk.experiment.index import StoredPrompt
from ropewalk.experiment.prepare import Asked, asked_of, document_row, prepare
from ropewalk.experiment.schema import stored
from ropewalk.experiment.todo import Chunk, Task
from ropewalk.models.reread import reread
from ropewalk.rope import RopeGeometry


class Sent(Protocol):
    """What goes to another process, and becomes a worker there."""

    def leased(self) -> AbstractContextManager[Any]:
        """What answers calls inside the block: its `opening` comes first, `run` gives the outcomes of a portion."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """What workers are made of: values that go to another process or machine, so nothing is read there but the model.

    Attributes:
        experiment: as resolved.
        geometry: fields of a RopeGeometry.
        documents: the texts, as the driver read them.
        exact: float32, eager attention, one row at a time.
    """

    experiment: Mapping[str, Any]
    geometry: Mapping[str, Any]
    documents: tuple[Document, ...]
    exact: bool

    @classmethod
    def of(cls, asked: Asked, *, exact: bool) -> Job:
        resolved, geometry = asked.experiment.resolved(), asked.geometry
        plain = {each.name: getattr(geometry, each.name) for each in fields(geometry) if each.init}
        plain["rope_parameters"] = dict(geometry.rope_parameters)
        return cls(experiment=resolved, geometry=plain, documents=asked.documents, exact=exact)

    def asked(self) -> Asked:
        """The experiment as its driver asked it."""
        return asked_of(stored(self.experiment), RopeGeometry(**self.geometry), self.documents)

    def leased(self) -> AbstractContextManager[Lease]:
        """A ready worker inside the block."""
        return leased(self.asked(), exact=self.exact)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opening:
    """What a worker says of itself first.

    Attributes:
        model: its provenance.
        facts: what the store keeps of a worker.
        documents: facts of every document that it measures.
        bos: whether documents begin with BOS.
        canary: the canary's losses at the start.
        left_out: sentences on shortcuts that it does not take.
    """

    model: Mapping[str, Any]
    facts: Mapping[str, Any]
    documents: Sequence[Mapping[str, Any]]
    bos: bool
    canary: dict[str, Any]
    left_out: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """A ready worker, as an executor talks to it; every answer is a value that can be sent."""

    worker: Worker
    start: dict[str, Any]

    def opening(self) -> Opening:
        prepared = self.worker.prepared
        return Opening(
            model=asdict(prepared.model.provenance),
            facts=self.worker.facts,
            documents=[document_row(index, tokens) for index, tokens in enumerate(prepared.tokens)],
            bos=prepared.tokens[0].bos,
            canary=self.start,
            left_out=self.worker.parts.left_out,
        )

    def documents(self) -> spans.Facts:
        """Token ids, bytes and key tokens of every document."""
        return spans.of_documents(self.worker)

    def prompts(self, metric: str, length: int) -> list[StoredPrompt]:
        """The prompts of a metric at a length, as the store keeps them."""
        found = self.worker.prompts(metric, length)
        return [StoredPrompt(request=prompt.request.key, facts=prompt.facts) for prompt in found]

    def layout(self, chunks: Sequence[Chunk], workers: int) -> list[Chunk]:
        """The chunks that so many workers share."""
        return laid_out(self.worker, chunks, workers)

    def run(self, chunk: Chunk) -> list[tuple[Task, Result]]:
        """Outcomes of a chunk."""
        return [one for batch in self.worker.run(chunk) for one in batch]

    def closing(self) -> dict[str, Any]:
        """The canary's losses at the end."""
        return canary.losses(self.worker.prepared, self.worker.parts)


@contextmanager
def leased(asked: Asked, *, exact: bool) -> Iterator[Lease]:
    """Load the model, make it fast, and watch the rotations that its layers get inside the block.

    Raises:
        RopewalkError: the model cannot be loaded, or its layers do not get the rotations that are asked for.
    """
    prepared = prepare(asked, exact=exact)
    model = prepared.model.model
    with ready(prepared, exact=exact) as worker, reread(model) as right:
        start = canary.losses(prepared, worker.parts)
        if start["nll"] is not None and not right:
            raise ModelError(
                f"model {asked.spec.id!r}: the forward pass of {type(model).__name__} never asked its rotary module, "
                "so no rotation could be applied; use the architecture as transformers ships it."
            )
        yield Lease(worker, start)
