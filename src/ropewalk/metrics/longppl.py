"""LongPPL: perplexity over the tokens that need the long context (Fang et al., arXiv:2410.23771).

A token is key under an evaluator when the long context helps it by more than `alpha` nats and makes it likely:
nll_short - nll_long > alpha and nll_long < -beta. The reference is the package `longppl`: same key tokens and, without
a BOS, the same number. With one the package finds key tokens behind the BOS and then scores them without it, which
models that lean on it pay for (strand: 289.1 instead of 273.2); `without_bos` is that reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from ropewalk.metrics.metric import Documents, Metric, OfDocument, Options, Remark, Sample
from ropewalk.metrics.perplexity import whole
from ropewalk.metrics.readings import Reading
from ropewalk.stats.column import Column

LONGPPL = Column(name="longppl", title="LongPPL", pooling="nll")

REACH = 0.75
"""Part of a length that key tokens must reach into for its LongPPL to go without a remark."""


class LongPPL(Options):
    """Perplexity of key tokens alone: those that a long context predicts better."""

    spans: str | None = None
    """Ready key tokens: builtin, or the path of a file; not beside `evaluator`."""
    evaluator: str | None = None
    """Who finds the key tokens: self, or another model."""
    trunc_len: Annotated[int, Field(ge=2)] = 4096
    """Tokens of the short context that the evaluator compares with."""
    stride: Annotated[int, Field(ge=1)] = 1024
    """Tokens from one short context to the next."""
    alpha: Annotated[float, Field(allow_inf_nan=False)] = 2.0
    """Least gain of the long context, nats, for a token to be key."""
    beta: Annotated[float, Field(allow_inf_nan=False)] = -2.0
    """Least log-probability in the long context, nats, for a token to be key."""
    min_key_tokens: Annotated[int, Field(ge=1)] = 30
    """A document and length with fewer has no value."""
    reading: Literal["package"] | None = None
    """package feeds the scored model no BOS, as the package `longppl` does; null reads as every other metric."""

    @model_validator(mode="after")
    def _one_source(self) -> LongPPL:
        if (self.spans is None) == (self.evaluator is None):
            raise ValueError(
                "needs exactly one of `spans` (builtin or a path) and `evaluator` (self or a model); "
                + ("leave one out" if self.spans else "write {spans: builtin}")
            )
        return self


def without_bos(length: int) -> tuple[Reading, ...]:
    """How the package scores a document of `length` tokens that begins with a BOS: one pass that leaves it out."""
    return (Reading(start=1, low=2, high=length),)


def asks(column: Column, options: LongPPL, length: int, longest: int) -> Documents:
    """One pass over the first `length` tokens, under the package's reading without the BOS."""
    return Documents(readings=without_bos(length) if options.reading == "package" else whole(length))


def sample(column: Column, options: LongPPL, readings: Sequence[Reading], unit: OfDocument) -> Sample | Remark:
    """Summed nats over the document's key tokens."""
    nats, count, last = 0.0, 0, None
    for reading in readings:
        key = np.flatnonzero(unit.arrays["key"][reading.low : reading.high])
        nats += float(reading.take(unit.losses(reading))[key].sum())
        count += len(key)
        last = reading.low + int(key[-1]) if key.size else last
    return Sample(unit=unit.id, numerator=nats, denominator=float(count), last_token=last)


def remark(column: Column, options: LongPPL, length: int, samples: Sequence[Sample]) -> Remark | None:
    """Too few key tokens are a finding, not a number; and key tokens may end well before the length."""
    holding = [each for each in samples if each.denominator > 0]
    count = round(sum(each.denominator for each in holding))
    if count < options.min_key_tokens:
        reason = f"{count} key tokens in {len(holding)} documents, fewer than {options.min_key_tokens}"
        return Remark(status="too_few_key_tokens", reason=reason)
    last = max((each.last_token for each in holding if each.last_token is not None), default=None)
    if last is None or last >= REACH * length:
        return None
    return Remark(reason=f"the last key token is token {last} of {length}: nothing beyond it is measured here")


def fits(options: LongPPL, bos: bool) -> str | None:
    """The package's reading is one of its own only where there is a BOS."""
    if options.reading is None or bos:
        return None
    return (
        "metrics.longppl.reading=package: this tokenizer puts no BOS in front, so the package reads as every metric "
        "does; leave it out"
    )


METRIC = Metric(
    name="longppl",
    options=LongPPL,
    columns=(LONGPPL,),
    asks=asks,
    sample=sample,
    remark=remark,
    arrays=("key",),
    fits=fits,
    same=lambda options, _: {"reading": options.get("reading")},
)
