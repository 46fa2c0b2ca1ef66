"""lm-eval's tasks at a length: its own prompts, answered under every scheme, judged item by item.

An item of several choices is several prompts; their log-likelihoods decide it together. Perplexities are sums of losses
over sums of words, bytes or answers, as lm-eval adds them up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ropewalk.errors import ExperimentError
from ropewalk.metrics.metric import Material, Metric, OfPrompt, Options, Prompt, Prompts, Remark, Sample, Shown
from ropewalk.metrics.readings import Reading
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.stats.column import Column
from ropewalk.tasks import lm_eval_items
from ropewalk.tasks.lm_eval_items import FILTERS, IGNORED, Item

PROTOCOL = "lm_eval@items-1"

ACC = Column(name="lm_eval", title="lm-eval acc", pooling="share", unit="item", higher_is_better=True)
NORM = Column(name="lm_eval_norm", title="lm-eval acc_norm", pooling="share", unit="item", higher_is_better=True)
SAID = Column(name="lm_eval_said", title="lm-eval exact_match", pooling="share", unit="item", higher_is_better=True)
PPL = Column(name="lm_eval_perplexity", title="lm-eval perplexity", pooling="nll", unit="item")
BITS = Column(name="lm_eval_bits", title="lm-eval bits_per_byte", pooling="bits", unit="item")


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
    accurate: bool = True
    """Whether it reports acc, where answers are fed in."""
    perplexity: bool = False
    """Whether it reports one, by word, byte or answer."""
    bits: bool = False
    """Whether it reports bits_per_byte."""

    @property
    def place(self) -> int:
        """Where it stands among tasks, so that those of a column stand beside each other."""
        return 3 if self.new_tokens else 2 if self.bits else int(self.perplexity)


class LmEval(Options):
    """Tasks of lm-eval by acc, acc_norm, exact_match, perplexity or bits_per_byte (pip install 'ropewalk[lm-eval]')."""

    tasks: Annotated[list[str], Field(min_length=1)]
    """Names of its tasks."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many items of each."""
    include_path: Annotated[str, Field(min_length=1)] | None = None
    """A folder of tasks of your own, as lm-eval calls it."""
    held: Annotated[list[Held], Field(max_length=1000)] = Field(default_factory=list)
    """What the tasks hold; filled in when the experiment file is read."""


def _items(options: LmEval) -> list[tuple[Item, ...]]:
    """The items by task, in the order of `Held.place`."""
    every = lm_eval_items.items(tuple(options.tasks), options.limit, options.include_path)
    return sorted(every, key=lambda own: _held(own).place)


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
        accurate=own[0].accurate,
        perplexity=own[0].words > 0,
        bits=own[0].utf8_bytes > 0,
    )


def asks(column: Column, options: LmEval, length: int, longest: int) -> Prompts | None:
    """The prompts of all tasks from the first to the last one that has the column."""
    having = [each for each in options.held if _has(column, each)]
    if not having:
        return None
    low, high = min(each.place for each in having), max(each.place for each in having)
    return Prompts(
        count=sum(each.prompts for each in options.held if low <= each.place <= high),
        new_tokens=max(each.new_tokens for each in having),
        first=sum(each.prompts for each in options.held if each.place < low),
    )


def _has(column: Column, held: Held) -> bool:
    """Whether a task has a column."""
    if column == SAID or held.new_tokens:
        return column == SAID and held.new_tokens > 0
    return {ACC: held.accurate, NORM: held.normalized, PPL: held.perplexity, BITS: held.bits}[column]


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
        "accurate": item.accurate,
        "words": item.words,
        "utf8_bytes": item.utf8_bytes,
        "filters": list(item.filters),
        "ignores": list(item.ignores),
    }


def _request(item: Item, pair: tuple[str, str], material: Material, length: int) -> Forced | Generated:
    """Token ids as lm-eval makes them: context and continuation in one, cut where the context alone ends."""
    context, said = pair[0].rstrip() if pair[1] else pair[0], pair[0][len(pair[0].rstrip()) :] + pair[1]
    before = list(material.encode_whole(context)) if context else [material.first_id]
    if before == [None]:
        raise ExperimentError(
            f"metrics.lm_eval.tasks: {item.task} has items without context, and the tokenizer has neither BOS nor EOS "
            "to stand there; leave it out."
        )
    if item.new_tokens:
        _require(item, item.new_tokens, length)
        ids = np.array(before[-(length - item.new_tokens) :], dtype=np.int32)
        return Generated(ids=ids, new_tokens=item.new_tokens, stop=item.stop)
    whole = list(material.encode_whole(context + said)) if context else [*before, *material.encode(said)]
    answer = len(whole) - len(before)
    _require(item, answer, length)
    return Forced(ids=np.array(whole[-length - 1 :], dtype=np.int32), answer_tokens=answer)


def _require(item: Item, answer: int, length: int) -> None:
    if item.pairs[0][0] == "" and answer >= length and not item.accurate:
        raise ExperimentError(
            f"metrics.lm_eval.tasks: document {item.document} of {item.task} has {answer} tokens, and a length of "
            f"{length} holds one less than that; raise it, or use ropewalk.harness.evaluate, which reads in windows."
        )
    if not 0 < answer < length:
        raise ExperimentError(
            f"metrics.lm_eval.tasks: an answer of {item.task} has {answer} tokens, which leave no room in a length of "
            f"{length}; raise the length, or leave the task out."
        )


def show(options: LmEval, material: Material, length: int, decode: Callable[[Sequence[int]], str]) -> list[Shown]:
    """The first item of each task with a right answer, as a model would see it. Raises as `prompts` does."""
    return [_shown(own[0], material, length, decode) for own in _items(options)]


def _shown(item: Item, material: Material, length: int, decode: Callable[[Sequence[int]], str]) -> Shown:
    pair = item.pairs[item.gold[0] if item.gold else 0]
    request = _request(item, pair, material, length)
    fed = 0 if isinstance(request, Generated) else request.answer_tokens
    ids = request.ids.tolist()
    return Shown(
        task=item.task,
        prompt=decode(ids[: len(ids) - fed]),
        answer=(item.references[0] if isinstance(request, Generated) else pair[1]).strip(),
        tokens=len(ids) - fed,
        new_tokens=item.new_tokens or fed,
        depth=None,
    )


def sample(column: Column, options: LmEval, readings: Sequence[Reading], unit: OfPrompt) -> Sample | Remark:
    """The log-likelihood of a choice, or whether what was said is a reference: what `gather` decides by."""
    value = _likelihood(unit) if unit.nll is not None else float(_found(unit))
    return Sample(unit=_named(unit), numerator=value, denominator=1.0, group=str(unit.facts["task"]))


def gather(column: Column, options: LmEval, units: Sequence[OfPrompt]) -> list[Sample]:
    """What every item gives to a column, of those whose prompts are all there and whose task has it."""
    by_item: dict[str, list[OfPrompt]] = {}
    for unit in units:
        by_item.setdefault(_named(unit), []).append(unit)
    having = {each.task for each in options.held if _has(column, each)}
    return [
        _gathered(column, name, own)
        for name, own in by_item.items()
        if own[0].facts["task"] in having and len(own) == own[0].facts["parts"]
    ]


def _gathered(column: Column, name: str, own: Sequence[OfPrompt]) -> Sample:
    """1 for an item that is answered right and 0 for another, or its loss and what that is shared among."""
    known = own[0].facts
    if column == PPL:
        numbers = -_likelihood(own[0]), float(known["words"])
    elif column == BITS:
        numbers = -_likelihood(own[0]) / math.log(2), float(known["utf8_bytes"])
    else:
        numbers = float(_right(column, own)), 1.0
    return Sample(unit=name, numerator=numbers[0], denominator=numbers[1], group=str(known["task"]))


def _right(column: Column, own: Sequence[OfPrompt]) -> bool:
    known = own[0].facts
    if column == SAID:
        return _found(own[0])
    if not known["gold"]:
        return list(own[0].predicted[:-1]) == list(own[0].answer or ())
    likelihoods = np.array([_likelihood(unit) for unit in own])
    return int(np.argmax(likelihoods / (known["characters"] if column == NORM else 1))) in known["gold"]


def _found(unit: OfPrompt) -> bool:
    """Whether what was said, up to the first stop string, is a reference, as far as the task looks."""
    stops = [unit.text.find(stop) for stop in unit.facts["stop"] if stop in unit.text]
    said = unit.text[: min(stops, default=len(unit.text))]
    for name in unit.facts.get("filters", ()):
        said = FILTERS[name](said)
    return _seen(said, unit) in [_seen(each, unit) for each in unit.facts["references"]]


def _seen(text: str, unit: OfPrompt) -> str:
    for name in unit.facts.get("ignores", ()):
        text = IGNORED[name](text)
    return text


def _likelihood(unit: OfPrompt) -> float:
    return -float(np.sum(np.asarray(unit.nll, dtype=np.float64)))


def _named(unit: OfPrompt) -> str:
    return f"{unit.facts['task']} {unit.facts['document']}"


def same(options: Mapping[str, Any], seed: Any) -> Any:
    """What was asked, wherever the tasks lay."""
    return {name: value for name, value in options.items() if name != "include_path"}


METRIC = Metric(
    name="lm_eval",
    options=LmEval,
    columns=(ACC, NORM, SAID, PPL, BITS),
    asks=asks,
    sample=sample,
    gather=gather,
    prompts=prompts,
    facts=facts,
    read=read,
    same=same,
    show=show,
)
