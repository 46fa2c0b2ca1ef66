"""The plan's passes are the passes that are fed, and a pace is what its seconds say."""

from __future__ import annotations

from collections import Counter

import pytest

from ropewalk.execution.run import sweep
from ropewalk.experiment import schema
from ropewalk.experiment.estimate import document_passes, estimate, prompt_passes
from ropewalk.experiment.overview import overview, time_line
from ropewalk.experiment.prepare import ask, prepare
from ropewalk.scoring import fast, split
from ropewalk.scoring.budget import batch_tokens
from ropewalk.scoring.probe import Fed, Pace, fit, probe


@pytest.fixture
def asked(experiment, loaded):
    methods = {"yarn": {"factor": [2, 4]}, "dynamic_ntk": {"factor": 2}}
    metrics = {"perplexity": {}, "passkey": {"trials": 4}}
    return ask(schema.parse(experiment(methods=methods, metrics=metrics, lengths=[192, 256]), "test"), loaded)


@pytest.fixture
def fed(loaded):
    """Shapes `(rows, positions)` of everything that goes through the model."""
    shapes = Counter()
    body = loaded.model.base_model
    hook = body.register_forward_pre_hook(
        lambda _, __, given: shapes.update([given["input_ids"].shape]), with_kwargs=True
    )
    yield shapes
    hook.remove()


def test_every_planned_pass_is_fed_and_hardly_any_other(asked, fed, loaded, tmp_path):
    prepared = prepare(asked)
    budget = batch_tokens(loaded.model, asked.experiment.lengths[-1])
    planned = [*document_passes(prepared, budget), *prompt_passes(prepared, budget, whole=False)]
    sweep(asked, tmp_path / "run")
    expected = Counter((each.rows, each.new) for each in planned)
    assert not expected - fed
    more = fed - expected  # parts and rows are proved (five), fast paths (three), sharing (two), a step; two canaries
    assert sum(more.values()) <= 13
    whole = sum(each.length * each.prompts.count for each in prepared.plan.prompts)
    assert sum(each.tokens for each in prompt_passes(prepared, budget, whole=False)) < 0.75 * whole
    assert sum(each.tokens for each in prompt_passes(prepared, budget, whole=True)) == whole


def test_prompts_that_are_read_twice_are_planned_and_fed_once(experiment, loaded, fed, tmp_path):
    tasks = {"tasks": ["single_noise"], "samples": 3, "generate": "all", "template": "none"}
    methods = {"yarn": {"factor": [2, 4]}}
    asked = ask(schema.parse(experiment(methods=methods, metrics={"tasks": tasks}, lengths=[640]), "test"), loaded)
    prepared = prepare(asked)
    budget = batch_tokens(loaded.model, 640)
    planned = [each for each in prompt_passes(prepared, budget, whole=False) if each.new > 1]
    sweep(asked, tmp_path / "run")
    shapes = {shape: count for shape, count in fed.items() if shape[0] == 3 and shape[1] > 1}
    assert shapes == Counter((each.rows, each.new) for each in planned)
    assert sum(each.new for each in planned) < 3 * 640  # both readings of three samples


def test_a_pace_is_found_from_its_own_seconds():
    pace = Pace(pass_s=0.01, token_s=1e-4, pair_s=2e-8)
    passes = [Fed(rows=1, new=16), Fed(rows=8, new=256), Fed(rows=1, new=4096)]
    found = fit([[each] for each in passes], [pace.seconds([each]) for each in passes], 1e-4)
    unseen = [Fed(rows=1, new=16384), Fed(rows=2, new=300, before=3000)]
    assert found.seconds(unseen) == pytest.approx(pace.seconds(unseen), rel=1e-6)
    assert found.seconds([Fed(rows=1, new=300, before=3000)]) > found.seconds([Fed(rows=1, new=300)])


@pytest.mark.parametrize("slip", [0.6, 1.0, 4.0])
def test_one_slow_pass_is_not_squared(slip):
    """A pass of 1536 tokens that took four times as long made eight minutes two hours."""
    pace = Pace(pass_s=0.01, token_s=3e-3, pair_s=7.7e-7)
    passes = [Fed(rows=1, new=16), Fed(rows=8, new=256), Fed(rows=1, new=1536)]
    seconds = [pace.seconds([each]) for each in passes]
    seconds[2] *= slip
    run = [Fed(rows=1, new=12288)] * 6
    assert 0.5 < fit([[each] for each in passes], seconds, 2.6e-4).seconds(run) / pace.seconds(run) < 4


def test_a_probe_feeds_little_and_its_pace_is_positive(asked, fed, loaded):
    prepared = prepare(asked)
    parts = split(loaded.model)
    fed.clear()
    with fast(loaded.model, parts, compiled=False) as quick:
        found = estimate(prepared, quick, 512)
    assert found.seconds > 0
    assert found.fed_tokens == sum(
        each.tokens for each in (*document_passes(prepared, 512), *prompt_passes(prepared, 512, whole=False))
    )
    assert sum(rows * positions for rows, positions in fed.elements()) < 0.5 * found.fed_tokens
    rotations = [scheme.rotation for scheme in prepared.plan.schemes.values()]
    for answers in (False, True):
        pace, once_s = probe(loaded.model, parts, prepared.tokens[0].ids[:256], rotations, 512, 10**6, answers=answers)
        assert min(once_s, pace.pass_s, pace.token_s, pace.pair_s) >= 0 < pace.seconds([Fed(rows=1, new=256)])


def test_prompts_of_a_model_that_cannot_go_on_are_counted_whole(asked, loaded, monkeypatch):
    monkeypatch.setattr(loaded.model, "_is_stateful", True)
    prepared = prepare(asked)
    with fast(loaded.model, split(loaded.model), compiled=False) as parts:
        found = estimate(prepared, parts, 512)
    passes = [*document_passes(prepared, 512), *prompt_passes(prepared, 512, whole=True)]
    assert found.fed_tokens == sum(each.tokens for each in passes)


def test_answers_that_are_generated_are_planned_as_they_are_fed(experiment, loaded, fed, tmp_path):
    metrics = {"passkey": {"trials": 4, "protocol": "yarn"}}
    asked = ask(
        schema.parse(experiment(methods={"yarn": {"factor": [2, 4]}}, metrics=metrics, lengths=[192, 256]), "t"), loaded
    )
    prepared = prepare(asked)
    budget = batch_tokens(loaded.model, 256)
    planned = prompt_passes(prepared, budget, whole=False)
    prefill = sum(each.tokens for each in planned if each.new > 1)
    assert sum(each.rows for each in planned if each.new > 1) == 24  # three schemes, two lengths, four prompts
    decode = [each for each in planned if each.new == 1]
    assert sum(each.tokens for each in decode) == 24 * 9  # the first of ten comes with the prompt
    assert {each.rows for each in decode} == {24}
    sweep(asked, tmp_path / "run")
    assert sum(r * p for r, p in fed.elements() if (r, p) in {(f.rows, f.new) for f in planned if f.new > 1}) >= prefill
    alone = prompt_passes(prepared, budget, whole=True)
    assert len(alone) == 24 * 10
    assert all(each.rows == 1 for each in alone)


def test_seconds_of_prefill_and_of_decode_are_told_apart(experiment, loaded, monkeypatch):
    """At a pace of a second per token, whatever this machine does."""
    metrics = {"passkey": {"trials": 4, "protocol": "yarn"}}
    asked = ask(schema.parse(experiment(methods={"yarn": {"factor": 2}}, metrics=metrics, lengths=[192]), "t"), loaded)
    pace = Pace(pass_s=0.0, token_s=1.0, pair_s=0.0)
    monkeypatch.setattr("ropewalk.experiment.estimate.probe", lambda *_, **__: (pace, 0.0))
    prepared = prepare(asked)
    with fast(loaded.model, split(loaded.model), compiled=False) as parts:
        found = estimate(prepared, parts, 512)
    rows = 2 * 4  # none and yarn
    assert found.decode_s == rows * 9
    assert found.seconds == found.fed_tokens
    assert 0 < found.seconds - found.decode_s <= rows * 192
    assert f"({rows * 9} s of them to generate token by token)" in time_line(found)
    assert overview(asked, None, found)["predicted_decode_s"] == rows * 9
