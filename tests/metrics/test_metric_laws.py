"""Laws that every metric of the table keeps."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from metric_table import ROWS, Row
from pydantic import ValidationError
from units_for_tests import encoder, material

import checkpoints
from ropewalk import metrics
from ropewalk.errors import ExperimentError
from ropewalk.metrics import METRICS, columns
from ropewalk.metrics.metric import Documents, Metric, OfDocument, OfPrompt, Prompts, Sample
from ropewalk.metrics.probes import probing
from ropewalk.stats.column import Column

LENGTH, LONGEST = 768, 1024
YARN = Row("passkey", {"trials": 3, "protocol": "yarn"}, {})
"""Prompts whose answers are generated."""
CASES = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def made(row: Any) -> tuple[Metric, Any]:
    metric = METRICS[row.name]
    return metric, metric.options.model_validate(row.options)


def asked(row: Any) -> list[tuple[Any, Documents | Prompts]]:
    """Columns that these options ask for, each with what it needs."""
    metric, options = made(row)
    needs = [(column, metric.asks(column, options, LENGTH, LONGEST)) for column in metric.columns]
    return [(column, each) for column, each in needs if each is not None]


def test_every_metric_has_a_row() -> None:
    assert [row.name for row in ROWS] == list(METRICS)
    assert all(name == metric.name for name, metric in METRICS.items())


@CASES
def test_options_are_frozen_written_as_json_and_refuse_what_they_do_not_know(row: Any) -> None:
    metric, options = made(row)
    assert metric.options.model_validate(options.model_dump(mode="json")) == options
    for wrong in (row.refused, {"unknown": 1}):
        with pytest.raises(ValidationError):
            metric.options.model_validate(wrong)


@CASES
def test_columns_are_named_once_and_say_what_they_are(row: Any) -> None:
    metric, _ = made(row)
    assert all(columns()[column.name] == (metric, column) for column in metric.columns)
    assert all(column.title and column.unit for column in metric.columns)


@CASES
def test_it_asks_inside_what_is_fed_and_needs_what_it_can_make(row: Any) -> None:
    metric, _ = made(row)
    assert asked(row)
    for _, needs in asked(row):
        if isinstance(needs, Prompts):
            assert needs.count > 0
            assert metric.prompts is not None
        else:
            assert all(0 <= each.start < each.low < each.high <= LONGEST for each in needs.readings)


@CASES
def test_a_worse_outcome_never_looks_better(row: Any) -> None:
    """Losses raised by a nat, or answers that are wrong, move every column to its worse side."""
    metric, options = made(row)
    for column, needs in asked(row):
        if isinstance(needs, Documents):
            values = [value_of(metric.sample(column, options, needs.readings, document(loss))) for loss in (2.0, 3.0)]
        elif needs.new_tokens or metric.gather is not None:  # units of several prompts have tests of their own
            continue
        else:
            values = [value_of(metric.sample(column, options, (), answer(row, right))) for right in (True, False)]
        assert (values[0] > values[1]) if column.higher_is_better else (values[0] < values[1])


def test_a_column_of_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match=r"column 'depth': pooling 'median' is none of nll, bits, share, mean"):
        Column(name="depth", title="depth", pooling="median")  # type: ignore[arg-type]


def test_a_column_that_no_metric_reports_is_refused_and_not_judged_as_a_loss() -> None:
    with pytest.raises(ExperimentError, match=r"no metric reports 'unheard' \(all: .*passkey.*\); install the package"):
        metrics.column("unheard")


@pytest.mark.parametrize("row", [*ROWS, YARN], ids=lambda row: f"{row.name} {row.options.get('protocol', '')}".strip())
def test_prompts_are_as_many_and_as_long_as_was_said_before(row: Any) -> None:
    metric, options = made(row)
    for _, needs in asked(row):
        if isinstance(needs, Documents) or metric.read is not None:  # prompts of files were counted when read
            continue
        own = metric.prompts(options, of_words(), LENGTH)[needs.first : needs.first + needs.count]
        assert len(own) == needs.count
        assert {getattr(each.request, "new_tokens", 0) for each in own} == {needs.new_tokens}


def document(loss: float) -> OfDocument:
    """A text of which every token costs so much."""
    arrays = {"utf8_bytes": np.full(LONGEST, 4, np.int32), "key": np.ones(LONGEST, bool)}
    return OfDocument(
        id="a",
        arrays=arrays,
        losses=lambda reading: np.full(LONGEST - reading.start - 1, loss, np.float32),
    )


def answer(row: Any, right: bool) -> OfPrompt:
    """The outcome of a metric's first prompt: every token of the answer predicted at little loss, or none."""
    metric, options = made(row)
    prompt = metric.prompts(options, of_words(), LENGTH)[0]
    tokens = prompt.request.answer.tolist() if hasattr(prompt.request.answer, "tolist") else [*prompt.request.answer]
    shift, nll = (0, 0.1) if right else (1, 5.0)
    return OfPrompt(
        unit="0",
        facts=prompt.facts,
        answer=tokens,
        predicted=[*(token + shift for token in tokens), 0],
        nll=[nll] * len(tokens),
        text="",
    )


def of_words(seed: int = 0) -> Any:
    words = checkpoints.tokenizer()
    prose = words(checkpoints.prose(1))["input_ids"]
    return material(encoder(words), bos_id=0, prose=prose, seed=seed)


def value_of(sample: Any) -> float:
    assert isinstance(sample, Sample)
    return sample.numerator / sample.denominator


@CASES
def test_prompts_are_the_same_for_the_same_seed_and_no_others(row: Any) -> None:
    metric, options = made(row)
    if metric.prompts is None or metric.read is not None:  # those of files have no seed
        return
    one, again, other = ([p.request.key for p in metric.prompts(options, of_words(s), LENGTH)] for s in (1, 1, 2))
    assert one == again
    assert not set(one) & set(other)
    assert all(len(p.request.ids) <= LENGTH for p in metric.prompts(options, of_words(), LENGTH))
    if metric.facts is not None:
        known = metric.facts(options, LENGTH, 0)
        stored = [p.facts for p in metric.prompts(options, of_words(), LENGTH)]
        assert [{name: facts[name] for name in each} for each, facts in zip(known, stored, strict=True)] == known


@CASES
def test_probes_are_prompts_of_its_own(row: Any) -> None:
    metric, options = made(row)
    found = probing([(metric, options)])
    assert (found is None) == (metric.probes is None)
    if found is None:
        return
    few = found.probes.some(options, 2)
    assert found.probes.count(few) == len(metric.prompts(few, of_words(), LENGTH)) == 2
    assert found.probes.column in metric.columns
    assert next(iter(found.probes.kinds(options).values())) == options
    assert found.probes.found(answer(row, True))
    assert not found.probes.found(dataclasses.replace(answer(row, True), text="7"))
