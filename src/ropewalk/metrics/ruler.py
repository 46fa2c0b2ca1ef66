"""RULER as its own preparation wrote it: prompts are read from its files and answers counted by its rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from ropewalk.errors import ExperimentError
from ropewalk.metrics.metric import Material, Metric, OfPrompt, Options, Prompt, Prompts, Remark, Sample
from ropewalk.metrics.readings import Reading
from ropewalk.metrics.requests import Generated
from ropewalk.stats.column import Column
from ropewalk.tasks import ruler_files
from ropewalk.tasks.ruler_files import File, Line

PROTOCOL = "ruler@upstream"

RULER = Column(name="ruler", title="RULER score", pooling="mean", unit="sample", higher_is_better=True, at_length=True)


class Held(Options):
    """What one file holds: how many samples of which task at which length, and 16 hex digits of its sha256."""

    length: int
    task: str
    samples: Annotated[int, Field(ge=1, le=100_000)]
    sha256: str

    @field_validator("task")
    @classmethod
    def _known(cls, task: str) -> str:
        if ruler_files.kind(task) not in ruler_files.NEW_TOKENS:
            raise ValueError(f"{task!r} is no task of RULER ({', '.join(ruler_files.NEW_TOKENS)})")
        return task


class Ruler(Options):
    """`files`: a folder with one folder per length, each holding what RULER's prepare.py wrote for this tokenizer;
    `limit`: only the first so many samples of each task; `held`: what the files hold, which a run fills in."""

    files: Annotated[str, Field(min_length=1)]
    limit: Annotated[int, Field(ge=1)] | None = None
    held: list[Held] = Field(default_factory=list)


def asks(column: Column, options: Ruler, length: int, longest: int) -> Prompts:
    """As many prompts as the files of the length hold; no file is opened. Raises ExperimentError."""
    found = _held(options, length)
    tokens = max(ruler_files.NEW_TOKENS[ruler_files.kind(each.task)] for each in found)
    return Prompts(count=sum(each.samples for each in found), new_tokens=tokens)


def _held(options: Ruler, length: int) -> list[Held]:
    found = [each for each in options.held if each.length == length]
    if not found:
        raise ExperimentError(
            f"metrics.ruler: what the files for {length} tokens hold is not known; put {length} into `lengths`."
        )
    return found


def carried(options: Ruler, lengths: Sequence[int]) -> Ruler:
    """The options with what the files hold.

    Raises:
        ExperimentError: files are missing or damaged, or hold something else than the options say already.
    """
    found = [
        Held(
            length=length,
            task=file.task,
            samples=len(ruler_files.lines(file, options.limit)),
            sha256=ruler_files.digest(file),
        )
        for length in lengths
        for file in ruler_files.files(options.files, length)
    ]
    if options.held and options.held != found:
        raise ExperimentError(
            f"metrics.ruler.held: the files in {options.files!r} hold something else; leave `held` out."
        )
    return options.model_copy(update={"held": found})


def _lines(options: Ruler, length: int) -> Iterator[tuple[File, str, Line]]:
    """Every sample of a length, with its file and that file's digest."""
    for file in ruler_files.files(options.files, length):
        digest = ruler_files.digest(file)
        yield from ((file, digest, line) for line in ruler_files.lines(file, options.limit))


def facts(options: Ruler, length: int, seed: int) -> list[Mapping[str, Any]]:
    """Task and the file's digest of every sample of a length; index and references stand in the files alone."""
    return [
        {"protocol": PROTOCOL, "file": each.sha256, "task": each.task}
        for each in _held(options, length)
        for _ in range(each.samples)
    ]


def _facts(digest: str, line: Line) -> Mapping[str, Any]:
    named = {"protocol": PROTOCOL, "file": digest, "task": line.task, "sample": line.index}
    return named | {"depth": None, "references": list(line.outputs)}


def prompts(options: Ruler, material: Material, length: int) -> list[Prompt]:
    """The prompts of a length, with a BOS where the tokenizer wants one, as upstream feeds them.

    Raises:
        ExperimentError: files are missing, damaged, of another tokenizer or of another length, or were changed.
    """
    carried(options, sorted({each.length for each in options.held}))
    built = list[Prompt]()
    for file, digest, line in _lines(options, length):
        if (why := ruler_files.fault(line, file, len(material.encode(line.prompt)))) is not None:
            raise ExperimentError(f"metrics.ruler.files: {why}.")
        ids = np.array(material.encode_whole(line.prompt), dtype=np.int32)
        built.append(Prompt(request=Generated(ids=ids, new_tokens=line.new_tokens), facts=_facts(digest, line)))
    return built


def sample(column: Column, options: Ruler, readings: Sequence[Reading], unit: OfPrompt) -> Sample | Remark:
    """The score of one answer."""
    task = str(unit.facts["task"])
    value = ruler_files.judge(task, unit.facts["references"], unit.text)
    return Sample(unit=f"{task} {unit.facts['sample']}", numerator=value, denominator=1.0, group=task)


METRIC = Metric(
    name="ruler",
    options=Ruler,
    columns=(RULER,),
    asks=asks,
    sample=sample,
    prompts=prompts,
    facts=facts,
    carried=carried,
)
