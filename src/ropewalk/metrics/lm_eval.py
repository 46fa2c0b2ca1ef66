"""lm-eval's tasks at a length: its own prompts, answered under every scheme, judged item by item.

An item of several choices is several prompts; their log-likelihoods decide it together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ropewalk.errors import ExperimentError
from ropewalk.metrics.metric import Material, Metric, OfPrompt, Options, Prompt, Prompts, Remark, Sample
from ropewalk.metrics.readings import Reading
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.stats.column import Column
from ropewalk.tasks import lm_eval_items
from ropewalk.tasks.lm_eval_items import Item

PROTOCOL = "lm_eval@items-1"

ACC = Column(name="lm_eval", title="lm-eval acc", pooling="share", unit="item", higher_is_better=True)
NORM = Column(name="lm_eval_norm", title="lm-eval acc_norm", pooling="share", unit="item", higher_is_better=True)
SAID = Column(name="lm_eval_said", title="lm-eval exact_match", pooling="share", unit="item", higher_is_better=True)


class Held(Options):
    """What a task held when the experiment was asked."""

    task: Annotated[str, Field(max_length=200)]
    """Its name."""
    prompts: Annotated[int, Field(ge=1, le=1_000_000)]
    """Of all its items."""
    new_tokens: Annotated[int, Field(ge=0, le=1_000_000)]
    """Of an answer at most; 0 where answers are fed in."""
    normalized: bool
    """Whether it reports acc_norm."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    """Of its items, the first 16 hex digits."""


class LmEval(Options):
    """Tasks of lm-eval that are scored by acc or exact_match (pip install 'ropewalk[lm-eval]')."""

    tasks: Annotated[list[str], Field(min_length=1)]
    """Names of its tasks."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many items of each."""
    include_path: Annotated[str, Field(min_length=1)] | None = None
    """A folder of tasks of your own, as lm-eval calls it."""
    held: Annotated[list[Held], Field(max_length=1000)] = Field(default_factory=list)
    """What the tasks hold; filled in when the experiment file is read."""

    def told(self, *, generated: bool) -> list[Held]:
        """The tasks whose answers are generated, or fed in."""
        return [each for each in self.held if (each.new_tokens > 0) is generated]


def _items(options: LmEval) -> list[tuple[Item, ...]]:
    """The items by task, those first whose answers are fed in."""
    every = lm_eval_items.items(tuple(options.tasks), options.limit, options.include_path)
    return sorted(every, key=lambda own: own[0].new_tokens > 0)


def read(options: LmEval, lengths: Sequence[int]) -> LmEval:
    """The options with what the tasks hold. Raises ExperimentError as `lm_eval_items.items` does."""
    return options.model_copy(update={"held": [_held(own) for own in _items(options)]})


def _held(own: tuple[Item, ...]) -> Held:
    return Held(
        task=own[0].task,
        prompts=sum(len(item.pairs) for item in own),
        new_tokens=max(item.new_tokens for item in own),
        normalized=bool(own[0].characters),
        sha256=lm_eval_items.digest(own),
    )


def asks(column: Column, options: LmEval, length: int, longest: int) -> Prompts | None:
    """Answers that are fed in come first, those that are generated after them."""
    first = sum(each.prompts for each in options.told(generated=False))
    said = options.told(generated=True)
    if column == SAID:
        tokens = max((each.new_tokens for each in said), default=0)
        return Prompts(count=sum(each.prompts for each in said), new_tokens=tokens, first=first) if said else None
    if not first or (column == NORM and not any(each.normalized for each in options.held)):
        return None
    return Prompts(count=first)


def facts(options: LmEval, length: int, seed: int) -> list[Mapping[str, Any]]:
    """Protocol, task and its digest of every prompt."""
    return [_task(each) for each in options.held for _ in range(each.prompts)]


def _task(held: Held) -> Mapping[str, Any]:
    return {"protocol": PROTOCOL, "task": held.task, "items": held.sha256}


def prompts(options: LmEval, material: Material, length: int) -> list[Prompt]:
    """The prompts of a length; longer ones lose their beginnings, as in lm-eval.

    Raises:
        ExperimentError: the tasks changed since the experiment began; an answer leaves no room for its prompt.
    """
    every = _items(options)
    if [_held(own) for own in every] != options.held:
        raise ExperimentError(
            f"metrics.lm_eval.tasks: {', '.join(options.tasks)} are not what they were when this experiment began; run "
            "it with a new --out."
        )
    return [
        Prompt(request=_request(item, pair, material, length), facts={**_task(held), **_known(item, part)})
        for own, held in zip(every, options.held, strict=True)
        for item in own
        for part, pair in enumerate(item.pairs)
    ]


def _known(item: Item, part: int) -> Mapping[str, Any]:
    """What an outcome is judged by."""
    return {
        "document": item.document,
        "part": part,
        "parts": len(item.pairs),
        "gold": list(item.gold),
        "characters": list(item.characters),
        "references": list(item.references),
        "stop": list(item.stop),
    }


def _request(item: Item, pair: tuple[str, str], material: Material, length: int) -> Forced | Generated:
    """Token ids as lm-eval makes them: context and continuation in one, cut where the context alone ends."""
    context, said = pair[0].rstrip() if pair[1] else pair[0], pair[0][len(pair[0].rstrip()) :] + pair[1]
    before = list(material.encode_whole(context)) if context else [material.bos_id]
    if before == [None]:
        raise ExperimentError(f"metrics.lm_eval.tasks: {item.task} has items without context, and there is no BOS.")
    if item.new_tokens:
        _require(item, item.new_tokens, length)
        ids = np.array(before[-(length - item.new_tokens) :], dtype=np.int32)
        return Generated(ids=ids, new_tokens=item.new_tokens, stop=item.stop)
    whole = list(material.encode_whole(context + said)) if context else [*before, *material.encode(said)]
    answer = len(whole) - len(before)
    _require(item, answer, length)
    return Forced(ids=np.array(whole[-length - 1 :], dtype=np.int32), answer_tokens=answer)


def _require(item: Item, answer: int, length: int) -> None:
    if not 0 < answer < length:
        raise ExperimentError(
            f"metrics.lm_eval.tasks: an answer of {item.task} has {answer} tokens, which leave no room in a length of "
            f"{length}; raise the length, or leave the task out."
        )


def sample(column: Column, options: LmEval, readings: Sequence[Reading], unit: OfPrompt) -> Sample | Remark:
    """The log-likelihood of a choice, or whether what was said is a reference: what `gather` decides by."""
    value = _likelihood(unit) if unit.nll is not None else float(_said(unit) in unit.facts["references"])
    return Sample(unit=_named(unit), numerator=value, denominator=1.0, group=str(unit.facts["task"]))


def gather(column: Column, options: LmEval, units: Sequence[OfPrompt]) -> list[Sample]:
    """1 for every item that is answered right, 0 for every other, of those whose prompts are all there."""
    by_item: dict[str, list[OfPrompt]] = {}
    for unit in units:
        by_item.setdefault(_named(unit), []).append(unit)
    whole = {name: own for name, own in by_item.items() if len(own) == own[0].facts["parts"]}
    return [
        Sample(unit=name, numerator=float(_right(column, own)), denominator=1.0, group=str(own[0].facts["task"]))
        for name, own in whole.items()
        if column != NORM or own[0].facts["characters"]
    ]


def _right(column: Column, own: Sequence[OfPrompt]) -> bool:
    known = own[0].facts
    if column == SAID:
        return _said(own[0]) in known["references"]
    if not known["gold"]:
        return list(own[0].predicted[:-1]) == list(own[0].answer or ())
    likelihoods = np.array([_likelihood(unit) for unit in own])
    return int(np.argmax(likelihoods / (known["characters"] if column == NORM else 1))) in known["gold"]


def _likelihood(unit: OfPrompt) -> float:
    return -float(np.sum(np.asarray(unit.nll, dtype=np.float64)))


def _said(unit: OfPrompt) -> str:
    """What was generated, up to the first stop string."""
    stops = [unit.text.find(stop) for stop in unit.facts["stop"] if stop in unit.text]
    return unit.text[: min(stops, default=len(unit.text))]


def _named(unit: OfPrompt) -> str:
    return f"{unit.facts['task']} {unit.facts['document']}"


def same(options: Mapping[str, Any], seed: Any) -> Any:
    """What was asked, wherever the tasks lay."""
    return {name: value for name, value in options.items() if name != "include_path"}


METRIC = Metric(
    name="lm_eval",
    options=LmEval,
    columns=(ACC, NORM, SAID),
    asks=asks,
    sample=sample,
    gather=gather,
    prompts=prompts,
    facts=facts,
    read=read,
    same=same,
)
