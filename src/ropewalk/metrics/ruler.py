"""RULER as its own preparation wrote it: prompts are read from its files and answers counted by its rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from ropewalk.errors import ExperimentError
from ropewalk.metrics.metric import Material, Metric, OfPrompt, Options, Prompt, Prompts, Remark, Sample, Shown
from ropewalk.metrics.readings import Reading
from ropewalk.metrics.requests import Generated
from ropewalk.stats.column import Column
from ropewalk.tasks import ruler_files
from ropewalk.tasks.ruler_files import File, Line

PROTOCOL = "ruler@upstream"

RULER = Column(name="ruler", title="RULER score", pooling="mean", unit="sample", higher_is_better=True, at_length=True)


class Held(Options):
    """What a file held when the experiment was asked: so many samples of a task at a length."""

    length: Annotated[int, Field(ge=1)]
    """Tokens."""
    task: Annotated[str, Field(max_length=100)]
    """Its name."""
    samples: Annotated[int, Field(ge=1, le=10_000)]
    """How many."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    """Of the file, its first 16 hex digits."""

    @field_validator("task")
    @classmethod
    def _of_a_kind(cls, task: str) -> str:
        if ruler_files.kind(task) not in ruler_files.NEW_TOKENS:
            raise ValueError(f"{task!r} is no task of RULER ({', '.join(ruler_files.NEW_TOKENS)}, as in qa_1)")
        return task


class Ruler(Options):
    """RULER's own samples, in an experiment of their own: never beside another dialect of RULER."""

    files: Annotated[str, Field(min_length=1)]
    """A folder with one folder per length, each holding what RULER's prepare.py wrote for this tokenizer."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many samples of each task."""
    held: Annotated[list[Held], Field(max_length=1000)] = Field(default_factory=list)
    """What the files hold; filled in when the experiment file is read."""

    def at(self, length: int) -> list[Held]:
        """The files of a length, by task."""
        return [each for each in self.held if each.length == length]


def read(options: Ruler, lengths: Sequence[int]) -> Ruler:
    """The options with what the files of these lengths hold. Raises ExperimentError as `ruler_files.lines` does."""
    found = [file for length in lengths for file in ruler_files.files(options.files, length)]
    held = [
        Held(
            length=file.length,
            task=file.task,
            samples=len(ruler_files.lines(file, options.limit)),
            sha256=ruler_files.digest(file),
        )
        for file in found
    ]
    return options.model_copy(update={"held": held})


def asks(column: Column, options: Ruler, length: int, longest: int) -> Prompts | None:
    """As many prompts as the files of the length hold."""
    held = options.at(length)
    if not held:
        return None
    tokens = max(ruler_files.new_tokens(each.task) for each in held)
    return Prompts(count=sum(each.samples for each in held), new_tokens=tokens)


def facts(options: Ruler, length: int, seed: int) -> list[Mapping[str, Any]]:
    """Task and file's digest of every sample of a length."""
    return [_file(each) for each in options.at(length) for _ in range(each.samples)]


def _file(held: Held) -> Mapping[str, Any]:
    return {"protocol": PROTOCOL, "file": held.sha256, "task": held.task}


def prompts(options: Ruler, material: Material, length: int) -> list[Prompt]:
    """The prompts of a length, with a BOS where the tokenizer wants one, as upstream feeds them.

    Raises:
        ExperimentError: files are missing, damaged, changed, of another tokenizer or of another length.
    """
    every, known = ruler_files.files(options.files, length), options.at(length)
    if [(file.task, ruler_files.digest(file)) for file in every] != [(each.task, each.sha256) for each in known]:
        raise ExperimentError(
            f"metrics.ruler.files: {options.files!r} is not what it was when this experiment began; run it with a new "
            "--out."
        )
    return [
        _prompt(line, file, held, material)
        for file, held in zip(every, known, strict=True)
        for line in ruler_files.lines(file, options.limit)
    ]


def _prompt(line: Line, file: File, held: Held, material: Material) -> Prompt:
    if (why := ruler_files.fault(line, file, len(material.encode(line.prompt)))) is not None:
        raise ExperimentError(f"metrics.ruler.files: {why}.")
    ids = np.array(material.encode_whole(line.prompt), dtype=np.int32)
    request = Generated(ids=ids, new_tokens=ruler_files.new_tokens(line.task))
    known = {"sample": line.index, "depth": None, "references": list(line.outputs)}
    return Prompt(request=request, facts={**_file(held), **known})


def show(options: Ruler, material: Material, length: int, decode: Callable[[Sequence[int]], str]) -> list[Shown]:
    """The first prompt of each file of a length, as a model would see it. Raises as `prompts` does."""
    first = {str(each.facts["task"]): each for each in reversed(prompts(options, material, length))}
    return [
        Shown(
            task=held.task,
            prompt=decode(first[held.task].request.ids.tolist()),
            answer=", ".join(first[held.task].facts["references"]),
            tokens=len(first[held.task].request.ids),
            new_tokens=ruler_files.new_tokens(held.task),
            depth=None,
        )
        for held in options.at(length)
    ]


def sample(column: Column, options: Ruler, readings: Sequence[Reading], unit: OfPrompt) -> Sample | Remark:
    """The score of one answer."""
    task = str(unit.facts["task"])
    value = ruler_files.judge(task, unit.facts["references"], unit.text)
    return Sample(unit=f"{task} {unit.facts['sample']}", numerator=value, denominator=1.0, group=task)


def same(options: Mapping[str, Any], seed: Any) -> Any:
    """What was asked, wherever the files lay."""
    return {name: value for name, value in options.items() if name != "files"}


METRIC = Metric(
    name="ruler",
    options=Ruler,
    columns=(RULER,),
    asks=asks,
    sample=sample,
    prompts=prompts,
    facts=facts,
    read=read,
    same=same,
    show=show,
    dialect="RULER",
)
