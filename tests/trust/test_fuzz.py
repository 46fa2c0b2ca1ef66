"""Bad input of every kind is taken within its range or refused in one sentence: a few inputs of each kind.

`benchmarks/faults.py fuzz` runs more than 100,000; what was found that way is listed in docs/results/trust.md.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import fuzzing
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

FEW = settings(
    max_examples=40,
    deadline=5000,  # milliseconds
    database=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking a database takes minutes
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def run(target: fuzzing.Target) -> fuzzing.Tally:
    tally = fuzzing.Tally()

    @FEW
    @given(target.strategy)
    def each(value: object) -> None:
        tally.check(target, value)

    each()
    return tally


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_every_input_is_taken_or_refused_in_one_sentence(name):
    tally = run(fuzzing.TARGETS[name])
    assert tally.refused > 0
    assert tally.taken + tally.refused >= 40


def test_every_database_is_read_or_refused_in_one_sentence(finished_run, tmp_path):
    run(fuzzing.database_target(Path(shutil.copytree(finished_run, tmp_path / "run"))))


def test_a_traceback_would_be_noticed():
    def careless(value: int) -> None:
        if value > 100:
            raise KeyError(value)

    with pytest.raises(KeyError):
        run(fuzzing.Target(strategy=st.integers(0, 200), check=careless, long=0))
