"""`plan` says what costs nothing before a model is loaded, and its probe keeps to a limit on a slow machine."""

from __future__ import annotations

import json

import pytest

from ropewalk.experiment import estimate, schema
from ropewalk.experiment.prepare import ask, prepare
from ropewalk.scoring import probe, split
from ropewalk.scoring.probe import Fed


def test_free_facts_come_before_the_model_and_the_time_last(ropewalk, file, monkeypatch, capsys):
    before = []

    def slow(asked, report):
        before.append(capsys.readouterr())
        report("probing documents", 0, 2)
        return estimate.Estimate(fed_tokens=123456, seconds=960.0)

    monkeypatch.setattr(estimate, "of", slow)
    said = ropewalk("plan", file())
    ((out, err),) = before
    assert out.startswith("3 configurations x 2 lengths, 20 cells, 20 measurements, 3 distinct rotations\n21 passes, ")
    assert "window 128 tokens" in out
    assert err == "probing for at most 60 s once the model is loaded; --no-probe leaves it out.\n"
    assert said.err.startswith("probing documents: 0 of 2 probes\n")
    assert said.out == (
        "about 960 s on this machine, by a probe; shared beginnings of prompts leave 123,456 tokens to feed\n"
    )


def test_no_probe_loads_no_model(ropewalk, file, monkeypatch):
    monkeypatch.setattr(estimate, "of", lambda *_: pytest.fail("the model was asked for"))
    said = ropewalk("plan", file(), "--no-probe")
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("\ntime unknown: not probed\n")
    assert json.loads(ropewalk("plan", file(), "--no-probe", "--json").out)["predicted_s"] is None


class Slow:
    """A clock, and a device that takes `token_s` for every token and as much again for `pair_s` says of its pairs."""

    def __init__(self, token_s):
        self.now, self.token_s, self.fed = 0.0, token_s, []

    def __call__(self):
        return self.now

    def feed(self, shapes):
        self.fed += shapes
        self.now += sum(each.tokens for each in shapes) * self.token_s

    def score(self, model, parts, rows, batch_tokens):
        self.feed([Fed(rows=len(rows), new=len(rows[0].ids))])
        return iter(())

    def walked(self, model, parts, rows, chunk, order):
        self.feed([Fed(rows=len(rows) // 2, new=round(1.5 * len(rows[0].ids)))])
        return iter(())


@pytest.fixture
def slow(monkeypatch, experiment, loaded):
    """`estimate` of a run of some 300,000 tokens on a device of a given pace."""
    methods = {"yarn": {"factor": [2, 3, 4, 5, 6, 7, 8, 9]}}
    metrics = {"perplexity": {}, "passkey": {"trials": 20}}
    asked = ask(schema.parse(experiment(methods=methods, metrics=metrics, lengths=[800]), "test"), loaded)
    prepared = prepare(asked)

    def run(token_s):
        device = Slow(token_s)
        monkeypatch.setattr(probe, "score", device.score)
        monkeypatch.setattr(probe, "walked", device.walked)
        found = estimate.estimate(prepared, split(loaded.model), 4096, clock=device)
        return device, found

    return run


@pytest.mark.parametrize("token_s", [1e-3, 2e-3, 1e-2, 0.1])
def test_a_slow_device_is_probed_within_the_limit(slow, token_s):
    device, found = slow(token_s)
    assert 0 < device.now < estimate.LIMIT_S
    assert 0.5 < found.seconds / (found.fed_tokens * token_s) < 4  # from short passes; squares are bounded, not known


def test_a_quick_device_is_probed_as_far_as_ever(slow):
    device, found = slow(1e-7)
    assert {each.new for each in device.fed} >= {16, 256, 800}
    assert found.seconds == pytest.approx(found.fed_tokens * 1e-7, rel=0.5)


def test_what_a_slow_device_feeds_gets_shorter_and_fewer(slow):
    longest = {token_s: max(each.new for each in slow(token_s)[0].fed) for token_s in (1e-7, 1e-2, 0.1)}
    assert longest[1e-7] > longest[1e-2] > longest[0.1] >= 16
