"""Tasks, read twice: the loss of the right answer fed in, and what the model says of itself.

`answer_nll` is smooth and tells rotations apart with few samples; `generated` is what papers report. Both ask the same
samples; the units of both are named after task and sample, so they pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from ropewalk.corpus.documents import choices
from ropewalk.errors import ExperimentError
from ropewalk.metrics.metric import Material, Metric, OfPrompt, Options, Prompt, Prompts, Remark, Sample, Shown
from ropewalk.metrics.readings import Reading
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.stats.column import Column
from ropewalk.tasks import TASKS, Draft, Layout, depths
from ropewalk.tasks.frame import THINKS, THOUGHT, Frame, chat_frame

PROTOCOL = "tasks@2"
"""Before 2 no question asked for a date."""
LINE = ("\n",)
"""A base model goes on after its answer; what comes after the line is no part of it."""

PLANNED_TOKENS = 32
"""New tokens of an answer, for a plan that knows no tokenizer."""

ANSWER_NLL = Column(
    name="answer_nll", title="nats per token of the right answer", pooling="mean", unit="sample", at_length=True
)
GENERATED = Column(
    name="generated",
    title="share of answers found",
    pooling="mean",
    unit="sample",
    higher_is_better=True,
    at_length=True,
)


class Tasks(Options):
    """Tasks of long contexts: what is found, followed, counted and gathered."""

    tasks: list[str] = Field(default_factory=lambda: list(TASKS), min_length=1)
    """Which; all if left out."""
    samples: Annotated[int, Field(ge=1, le=2000)] = 20
    """Per task and length."""
    generate: Literal["none", "best", "all"] = "none"
    """Under which schemes answers are generated as well: none, all, or at each length the method
    none and those that `answer_nll` cannot tell from the best."""
    template: Literal["auto", "none", "chat"] = "auto"
    """auto takes the tokenizer's chat template where it has one."""
    thinking_tokens: Annotated[int, Field(ge=0)] = 0
    """Tokens that a model may think before it answers."""

    @field_validator("tasks")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in TASKS:
                raise ValueError(f"no task is called {name!r}; {choices(name, TASKS).removesuffix('.')}")
        if len(set(names)) < len(names):
            raise ValueError("a task is named twice; name each once")
        return names

    @model_validator(mode="after")
    def _possible(self) -> Tasks:
        if self.thinking_tokens and (self.template == "none" or self.generate == "none"):
            raise ValueError("thinking_tokens are for generated answers in a chat; set generate, and template: chat")
        return self

    @property
    def count(self) -> int:
        """Prompts of one reading at one length."""
        return len(self.tasks) * self.samples


def asks(column: Column, options: Tasks, length: int, longest: int) -> Prompts | None:
    """Forced prompts come first, generated ones after them."""
    if column == ANSWER_NLL:
        return Prompts(count=options.count)
    if options.generate == "none":
        return None
    return Prompts(
        count=options.count,
        new_tokens=PLANNED_TOKENS + options.thinking_tokens,
        first=options.count,
        best_by=ANSWER_NLL.name if options.generate == "best" else None,
    )


def facts(options: Tasks, length: int, seed: int) -> list[Mapping[str, Any]]:
    """Task, sample, depth and references of every prompt of a length."""
    known = [_facts(task, place, draft) for task, place, draft in _drafts(options, length, seed)]
    return known if options.generate == "none" else known * 2


def _facts(task: str, place: int, draft: Draft) -> Mapping[str, Any]:
    named = {"protocol": PROTOCOL, "task": task, "sample": place}
    return named | {"depth": draft.depth, "references": list(draft.references)}


def _drafts(options: Tasks, length: int, seed: int) -> Iterator[tuple[str, int, Draft]]:
    for name in options.tasks:
        for place, depth in enumerate(depths(options.samples)):
            yield name, place, TASKS[name].draft(seed, place, depth, length)


def prompts(options: Tasks, material: Material, length: int) -> list[Prompt]:
    """The prompts of one length, with the answers' budgets that many tokens each.

    Raises:
        ExperimentError: the length is too short for a task; the tokenizer merges pieces; no chat template though one
            was asked for, or one that cannot ask.
    """
    frame, silent = _frames(options, material)
    layout = _layout(options, material, frame)
    speaks = layout if silent == frame else _layout(options, material, silent)
    forced, generated = list[Prompt](), list[Prompt]()
    stop = LINE if frame == Frame() else ()
    for task, place, draft in _drafts(options, length, material.seed):
        known = _facts(task, place, draft)
        laid = layout.lay(task, draft, length)
        ids = np.array([*laid.ids, *laid.answer], dtype=np.int32)
        forced.append(Prompt(request=Forced(ids=ids, answer_tokens=len(laid.answer)), facts=known))
        if options.generate != "none":
            laid = speaks.lay(task, draft, length)
            request = Generated(ids=laid.ids, new_tokens=laid.new_tokens, stop=stop)
            generated.append(Prompt(request=request, facts={**known, "thinks": True} if silent.thinks else known))
    return forced + generated


def show(options: Tasks, material: Material, length: int, decode: Callable[[Sequence[int]], str]) -> list[Shown]:
    """One prompt of each task, from the middle of its samples, as a model would see it. Raises as `prompts` does."""
    layout = _layout(options, material, _frames(options, material)[0])
    place, shown = options.samples // 2, list[Shown]()
    for name in options.tasks:
        draft = TASKS[name].draft(material.seed, place, depths(options.samples)[place], length)
        laid = layout.lay(name, draft, length)
        shown.append(
            Shown(
                task=name,
                prompt=decode(laid.ids.tolist()),
                answer=draft.answer.strip(),
                tokens=len(laid.ids),
                new_tokens=laid.new_tokens,
                depth=laid.needles[0] if draft.depth is not None else None,
            )
        )
    return shown


def _layout(options: Tasks, material: Material, frame: Frame) -> Layout:
    return Layout(encode=material.encode, bos_id=material.bos_id, frame=frame, thinking_tokens=options.thinking_tokens)


def _frames(options: Tasks, material: Material) -> tuple[Frame, Frame]:
    """What stands around a prompt whose answer is fed in, and around one that is to be answered: a model that thinks
    first begins its answer itself."""
    if options.template == "none" or (options.template == "auto" and material.chat is None):
        if options.thinking_tokens:
            raise ExperimentError(
                f"metrics.tasks.thinking_tokens={options.thinking_tokens}: the tokenizer has no chat template, "
                "in which alone models think; leave it out."
            )
        return Frame(), Frame()
    if material.chat is None:
        raise ExperimentError(
            "metrics.tasks.template=chat: this model's tokenizer has no chat template; use template: none."
        )
    place = f"metrics.tasks.template={options.template}"
    return chat_frame(material.chat, place), chat_frame(material.chat, place, prefixed=not options.thinking_tokens)


def sample(column: Column, options: Tasks, readings: Sequence[Reading], unit: OfPrompt) -> Sample | Remark:
    """Mean nats of the answer's tokens, or the share of references that the answer names."""
    if unit.nll is not None:
        value = float(np.mean(np.asarray(unit.nll, dtype=np.float64)))
    else:
        said = answered(unit.text, thinks=bool(unit.facts.get("thinks")))
        value = TASKS[unit.facts["task"]].judge(unit.facts["references"], said)
    named = f"{unit.facts['task']} {unit.facts['sample']}"
    return Sample(
        unit=named, numerator=value, denominator=1.0, depth=unit.facts["depth"], group=str(unit.facts["task"])
    )


def answered(said: str, *, thinks: bool = False) -> str:
    """What was said after the last thought; nothing after one that the tokens did not suffice to end, begun by the
    prompt if it `thinks`."""
    if THOUGHT in said:
        return said.rsplit(THOUGHT, 1)[-1]
    return "" if thinks or THINKS in said else said


def check(options: Tasks, shortest: int) -> str | None:
    """Thoughts have to leave room for a prompt."""
    if 2 * options.thinking_tokens <= shortest:
        return None
    return (
        f"metrics.tasks.thinking_tokens={options.thinking_tokens} leave less than half of the shortest length "
        f"{shortest} for the prompt; lower them or drop that length"
    )


METRIC = Metric(
    name="tasks",
    options=Tasks,
    columns=(ANSWER_NLL, GENERATED),
    asks=asks,
    sample=sample,
    prompts=prompts,
    facts=facts,
    check=check,
    show=show,
    dialect="RULER",
)
