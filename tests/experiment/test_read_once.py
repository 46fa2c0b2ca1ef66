"""A run is opened once and planned once by each verb that reads it."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from ropewalk.cli import app, err
from ropewalk.experiment import plan
from ropewalk.experiment.store import Store
from ropewalk.report import write
from ropewalk.terminal import run_app

VERBS = {
    "results": ["results", "{}", "--json"],
    "report": ["report", "{}"],
    "recommend": ["recommend", "{}", "--length", "256"],
    "compare": ["compare", "{}", "{}"],
    "verify": ["verify", "{}"],
}


@pytest.fixture
def counts(monkeypatch) -> Counter[str]:
    """How often a database was opened, and a plan made."""
    found: Counter[str] = Counter()
    opened, made = Store.open_run, plan.make

    def open_run(*args, **kwargs):
        found["openings"] += 1
        return opened(*args, **kwargs)

    def make(*args, **kwargs):
        found["plans"] += 1
        return made(*args, **kwargs)

    monkeypatch.setattr(Store, "open_run", open_run)
    monkeypatch.setattr(plan, "make", make)
    monkeypatch.setattr(write, "png", lambda *_: b"")  # drawing takes seconds
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_reads_a_run_once(verb, copied, counts, monkeypatch, capsys):
    asked = [word.format(copied) for word in VERBS[verb]]
    monkeypatch.setattr(sys, "argv", ["ropewalk", *asked])
    assert run_app(app, err) == 0, capsys.readouterr().err
    runs = asked.count(str(copied))
    assert counts == {"openings": runs, "plans": runs}
