"""What a run has measured so far, in memory: filled from its database once, and kept up by whoever writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ropewalk.experiment.plan import Feed
from ropewalk.experiment.store import Store
from ropewalk.metrics.metric import OfPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A document's pass up to some token: where its losses lie, or why there are none."""

    status: str
    reason: str | None
    file: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPrompt:
    """A prompt that the run asks: the key of its request, and what its metric knows of it."""

    request: str
    facts: Mapping[str, Any] = field(hash=False)

    def agrees(self, facts: Mapping[str, Any]) -> bool:
        """Whether these facts hold all that was kept when it was stored; metrics may keep more by now."""
        return all(facts.get(name) == value for name, value in self.facts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said to a prompt, or why it did not; see `OfPrompt`."""

    status: str
    reason: str | None = None
    answer: Sequence[int] | None = None
    predicted: Sequence[int] = ()
    nll: Sequence[float] | None = None
    text: str = ""

    def of(self, unit: str, facts: Mapping[str, Any]) -> OfPrompt:
        """As a metric reads it."""
        return OfPrompt(
            unit=unit, facts=facts, answer=self.answer, predicted=self.predicted, nll=self.nll, text=self.text
        )


@dataclass(slots=True)
class Index:
    """Outcomes by what they measure.

    Attributes:
        passes: by feed and document, then by the token that they end before.
        prompts: by metric and length, in their order.
        answers: by fingerprint and the key of the request.
    """

    passes: dict[tuple[Feed, int], dict[int, Pass]] = field(default_factory=dict)
    prompts: dict[tuple[str, int], list[StoredPrompt]] = field(default_factory=dict)
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store) -> Index:
        """The index of a run.

        Raises:
            StoreError: it is damaged.
        """
        index = cls()
        for row in store.table("passes"):
            feed = Feed(fingerprint=row["fingerprint"], start=row["start"], bos=bool(row["bos"]))
            outcome = Pass(status=row["status"], reason=row["reason"], file=row["file"], sha256=row["sha256"])
            index.passes.setdefault((feed, row["document"]), {})[row["stop"]] = outcome
        for row in store.prompts():
            facts = store.parsed(row["facts"], "facts of a prompt")
            prompt = StoredPrompt(request=row["request"], facts=facts)
            index.prompts.setdefault((row["metric"], row["length"]), []).append(prompt)
        for row in store.answers():
            index.answers[row["fingerprint"], row["request"]] = _answer(store, row)
        return index


def _answer(store: Store, row: Mapping[str, Any]) -> Answer:
    answer, predicted, nll = (
        None if row[name] is None else store.parsed(row[name], f"{name} of an answer")
        for name in ("answer", "predicted", "nll")
    )
    return Answer(
        status=row["status"],
        reason=row["reason"],
        answer=answer,
        predicted=() if predicted is None else predicted,
        nll=nll,
        text=row["text"] or "",
    )
