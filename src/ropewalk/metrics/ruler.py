"""RULER as its own preparation wrote it: prompts are read from its files and answers counted by its rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ropewalk.errors import ExperimentError
from ropewalk.metrics.metric import Material, Metric, OfPrompt, Options, Prompt, Prompts, Remark, Sample
from ropewalk.metrics.readings import Reading
from ropewalk.metrics.requests import Generated
from ropewalk.stats.column import Column
from ropewalk.tasks import ruler_files
from ropewalk.tasks.ruler_files import File, Line

PROTOCOL = "ruler@upstream"

RULER = Column(name="ruler", title="RULER score", pooling="mean", unit="sample", higher_is_better=True, at_length=True)


class Ruler(Options):
    """RULER's own samples."""

    files: Annotated[str, Field(min_length=1)]
    """A folder with one folder per length, each holding what RULER's prepare.py wrote for this tokenizer."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many samples of each task."""


def asks(column: Column, options: Ruler, length: int, longest: int) -> Prompts:
    """As many prompts as the files of the length hold. Raises ExperimentError as `ruler_files.lines` does."""
    tokens = [line.new_tokens for _, _, line in _lines(options, length)]
    return Prompts(count=len(tokens), new_tokens=max(tokens))


def _lines(options: Ruler, length: int) -> Iterator[tuple[File, str, Line]]:
    """Every sample of a length, with its file and that file's digest."""
    for file in ruler_files.files(options.files, length):
        digest = ruler_files.digest(file)
        yield from ((file, digest, line) for line in ruler_files.lines(file, options.limit))


def facts(options: Ruler, length: int, seed: int) -> list[Mapping[str, Any]]:
    """Task, index, references and the file's digest of every sample of a length."""
    return [_facts(digest, line) for _, digest, line in _lines(options, length)]


def _facts(digest: str, line: Line) -> Mapping[str, Any]:
    named = {"protocol": PROTOCOL, "file": digest, "task": line.task, "sample": line.index}
    return named | {"depth": None, "references": list(line.outputs)}


def prompts(options: Ruler, material: Material, length: int) -> list[Prompt]:
    """The prompts of a length, with a BOS where the tokenizer wants one, as upstream feeds them.

    Raises:
        ExperimentError: files are missing, damaged, of another tokenizer or of another length.
    """
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
)
