"""The contract of a metric: options, the requests it makes, and per-unit numbers out of their outcomes; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ropewalk.metrics.probes import Probes
from ropewalk.metrics.readings import Reading
from ropewalk.metrics.requests import Forced, Generated
from ropewalk.stats.column import Column


class Options(BaseModel):
    """A metric's section of the experiment file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """A number made of losses of every document: the same readings of each."""

    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """A number made of answers to `count` prompts of the cell's length.

    Attributes:
        count: how many.
        new_tokens: > 0 if they are generated: how many at most, as far as that is known without a tokenizer.
        first: place of the first among the metric's prompts of that length.
        best_by: the name of a column: they are asked only of its best set, and of `none`; None: of all.
    """

    count: int
    new_tokens: int = 0
    first: int = 0
    best_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompt:
    """One prompt with what is known of it; `facts` are JSON values that the store keeps beside its outcomes."""

    request: Forced | Generated
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """What prompts are made of.

    Attributes:
        encode: text to token ids, without special tokens.
        encode_whole: text to token ids as the tokenizer does by default, special tokens included.
        chat: a user's message to the text of the chat template up to where the assistant speaks; None without one.
        bos_id: put first where the tokenizer wants one.
        first_id: what stands before a text that nothing stands before: BOS, or else EOS.
        prose: token ids of the first document, without BOS.
        seed: of the experiment.
    """

    encode: Callable[[str], Sequence[int]]
    encode_whole: Callable[[str], Sequence[int]]
    chat: Callable[[str], str] | None
    bos_id: int | None
    prose: Sequence[int]
    seed: int
    first_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OfDocument:
    """What a document gives to a cell.

    Attributes:
        arrays: facts of its tokens, `[N]` each: `utf8_bytes` int32, `key` bool; what there is.
        losses: a reading to the losses of a pass that serves it: float32, first entry that of token start + 1.
    """

    id: str
    arrays: Mapping[str, NDArray[Any]]
    losses: Callable[[Reading], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OfPrompt:
    """What an answer gives to a cell.

    Attributes:
        unit: its place among the prompts of its length.
        facts: the prompt's.
        answer: the tokens that were fed in; None if tokens were generated.
        predicted: int32 `[A + 1]`, the argmax before each token of the answer and after the last; or the new tokens.
        nll: nats of each token of the answer; None if tokens were generated.
        text: what the last prediction adds to the text of the answer, or what was generated.
    """

    unit: str
    facts: Mapping[str, Any]
    answer: Sequence[int] | None
    predicted: Sequence[int]
    nll: Sequence[float] | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """What one unit gives to a cell: value = sum of numerators / sum of denominators.

    `depth` is a prompt's; `last_token` the last one of the document that counts; `group` names what the unit is one of
    several of, such as a task, where a number is to be read by parts; `cluster` names the document that the unit is a
    window of, where several are read of each (no metric sets it).
    """

    unit: str
    numerator: float
    denominator: float
    depth: float | None = None
    last_token: int | None = None
    group: str | None = None
    cluster: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What is to be said of a value: a reason beside it, or, with a status other than ok, in its place."""

    reason: str
    status: str = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A prompt for people: `depth` is that of the first needle, as a share of the length; None without one."""

    task: str
    prompt: str
    answer: str
    tokens: int
    new_tokens: int
    depth: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric as everything else sees it.

    Attributes:
        name: its section of the experiment file.
        options: that section.
        columns: what it reports.
        asks: (column, options, length, longest length) to what the column's value at a length is made of; None where
            these options do not ask for the column.
        sample: (column, options, readings, outcome of a unit) to its numbers, or why there are none.
        gather: (column, options, answers of all prompts) to per-unit numbers, where a unit is several prompts; None:
            each prompt is one, and `sample` says all.
        prompts: (options, material, length) to the prompts of a length; None if it asks for none. Raises
            ExperimentError.
        facts: (options, length, seed) to what is known of the prompts of a length without a tokenizer; `verify` holds
            stored prompts against it.
        remark: (column, options, length, samples) to what is to be said of the value.
        arrays: names of the facts of documents' tokens that it needs.
        check: (options, shortest length) to what is wrong with them together; None if nothing is.
        same: (options as JSON values, seed) to what two runs must share for their values to mean the same; None: all
            options, and the seed where there are prompts.
        fits: (options, whether documents begin with BOS) to what is wrong with them together; None if nothing is.
        read: (options, lengths) to options that say what the files hold that they name. Asked once, where an experiment
            is read: a run that somebody else recorded opens none. Raises ExperimentError.
        show: (options, material, length, tokens to text) to prompts for people. Raises as `prompts` does.
        probes: what tuning can ask of its kind; None if its answers are not forced.
        dialect: the protocol that it is one dialect of: two of one are never asked for together, as a number of one
            beside a number of the other would be read as the same.
        held: (options, a prompt's facts, its length, tokens) to whether what it asks for stands in so many of its last
            tokens; None of it: not known.
    """

    name: str
    options: type[Options]
    columns: tuple[Column, ...]
    asks: Callable[[Column, Any, int, int], Documents | Prompts | None]
    sample: Callable[[Column, Any, Sequence[Reading], Any], Sample | Remark]
    gather: Callable[[Column, Any, Sequence[OfPrompt]], Sequence[Sample]] | None = None
    prompts: Callable[[Any, Material, int], Sequence[Prompt]] | None = None
    facts: Callable[[Any, int, int], Sequence[Mapping[str, Any]]] | None = None
    remark: Callable[[Column, Any, int, Sequence[Sample]], Remark | None] | None = None
    arrays: tuple[str, ...] = ()
    check: Callable[[Any, int], str | None] | None = None
    same: Callable[[Mapping[str, Any], Any], Any] | None = None
    fits: Callable[[Any, bool], str | None] | None = None
    read: Callable[[Any, Sequence[int]], Any] | None = None
    show: Callable[[Any, Material, int, Callable[[Sequence[int]], str]], Sequence[Shown]] | None = None
    probes: Probes | None = None
    dialect: str | None = None
    held: Callable[[Any, Mapping[str, Any], int, int], bool | None] | None = None
