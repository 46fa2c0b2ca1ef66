"""A metric, a method without a rotation of its own and an executor from another package: run, stored, reported,
recommended and verified without a change in ropewalk."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ropewalk.errors import ExperimentError
from ropewalk.execution.rerun import verify_passes
from ropewalk.execution.run import sweep
from ropewalk.execution.table import executor
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.results import Run
from ropewalk.experiment.verify import verify_rows
from ropewalk.report import study, write
from ropewalk.report.recommend import recommend

METRIC = '''
"""Mean loss of the half of a text's tokens that a model finds hardest."""

import numpy as np

from ropewalk.metrics.metric import Documents, Metric, Options, Sample
from ropewalk.metrics.perplexity import whole
from ropewalk.stats.column import Column


class Hard(Options):
    share: float = 0.5


HARD = Column(name="hard", title="loss of hard tokens", pooling="mean", unit="document")


def asks(column, options, length, longest):
    return Documents(readings=whole(length))


def sample(column, options, readings, unit):
    nll = np.sort(np.concatenate([reading.take(unit.losses(reading)) for reading in readings]))
    hardest = nll[-round(options.share * nll.size):]
    return Sample(unit=unit.id, numerator=float(hardest.sum()), denominator=float(hardest.size))


METRIC = Metric(name="hard", options=Hard, columns=(HARD,), asks=asks, sample=sample)
'''

METHOD = '''
"""The shipped model, fed only the last tokens."""

from dataclasses import dataclass, field
from typing import ClassVar

from ropewalk.methods import Method
from ropewalk.methods.method import KIND, Params
from ropewalk.methods.none import shipped
from ropewalk.methods.parameters import Tokens
from ropewalk.scheme import Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent(Params):
    method: ClassVar[str] = "recent"
    tokens: int = field(default=64, metadata={KIND: Tokens(doc="how many")})


def recent(geometry, params, length):
    return Scheme(rotation=shipped(geometry, params.tokens), context=params.tokens)


METHOD = Method(name="recent", params=Recent, function=recent, paper="none", summary="Only the last tokens.")
'''

EXECUTOR = '''
"""One worker in this process that takes the last chunk first."""

from contextlib import contextmanager
from dataclasses import dataclass

from ropewalk.execution import local
from ropewalk.execution.executor import Executor

TAKEN = []


class Backwards(local.Alone):
    def map(self, chunks):
        TAKEN.append(len(chunks))
        return super().map(list(reversed(chunks)))


@contextmanager
def crew(asked, exact, fleet):
    with local.leased(asked, exact=exact) as lease:
        yield Backwards(lease)


EXECUTOR = Executor(name="backwards", summary="the last chunk first", crew=crew)
'''


@pytest.fixture
def asked(experiment: Callable[..., dict[str, Any]], install: Any) -> Any:
    """An experiment that asks for a metric and a method of two other packages."""
    install("hardmetric", {"ropewalk.metrics": {"hard": "METRIC"}}, METRIC)
    install("recentmethod", {"ropewalk.methods": {"recent": "METHOD"}}, METHOD)
    raw = experiment(metrics={"perplexity": {}, "hard": {"share": 0.25}}, methods={"recent": {"tokens": 48}})
    return ask(schema.parse(raw, "test"))


def tables(run: Run) -> tuple[list[dict[str, Any]], dict[Any, float]]:
    """What a run says, in no order."""
    rows = sorted(run.rows(), key=lambda row: (row["method"], row["length"], row["metric"]))
    samples = run.samples()
    key = [samples[name] for name in ("label", "length", "metric", "unit")]
    return rows, dict(zip(zip(*key, strict=True), samples["numerator"], strict=True))


def test_a_metric_and_a_method_are_run_stored_reported_and_verified(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sweep(asked, tmp_path / "run")
    rows = {(row["method"], row["metric"], row["length"]): row for row in run.rows()}
    hard, mean = rows["none", "hard", 256], rows["none", "perplexity", 256]
    assert hard["status"] == "ok"
    assert hard["value"] > math.log(mean["value"])
    assert hard["n"] == 3
    assert {metric for method, metric, _ in rows if method == "recent"} == {"tail"}
    assert rows["recent", "tail", 256]["value"] != rows["none", "tail", 256]["value"]
    assert run.missing.cells == 0
    assert verify_rows(tmp_path / "run") == (len(rows), [])
    assert verify_passes(tmp_path / "run", 2, seed=0) == (2, [])
    monkeypatch.setattr(write, "png", lambda *_: b"")  # drawing takes seconds
    page, text, *_ = write.report(tmp_path / "run")
    assert "loss of hard tokens" in page.read_text()
    assert "recent tokens=48" in text.read_text()
    assert recommend(study.of(run.data).run, 256).judged_at == 256


def test_without_their_packages_a_run_is_refused_in_a_sentence(
    asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(asked, tmp_path / "run")
    monkeypatch.setattr("ropewalk.plugins.entry_points", lambda group: ())
    with pytest.raises(Exception, match=r"run\.sqlite|metrics|recent") as caught:
        Run.read(tmp_path / "run")
    assert type(caught.value).__module__ == "ropewalk.errors"


def test_an_executor_writes_the_store_that_local_writes(
    asked: Any, tmp_path: Path, install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("backexecutor", {"ropewalk.executors": {"backwards": "EXECUTOR"}}, EXECUTOR)
    other = executor("backwards")
    run = sweep(asked, tmp_path / "other", executor=other)
    assert sum(importlib.import_module("backexecutor").TAKEN) > 0
    assert tables(run) == tables(sweep(asked, tmp_path / "local"))
    assert verify_rows(tmp_path / "other") == (len(run.rows()), [])
    assert verify_passes(tmp_path / "other", 2, seed=0) == (2, [])
    monkeypatch.setattr(write, "png", lambda *_: b"")
    assert "loss of hard tokens" in write.report(tmp_path / "other")[1].read_text()


def test_an_executor_that_nobody_offers_is_refused() -> None:
    with pytest.raises(ExperimentError, match="executor 'backwards' is unknown; give one of local, processes, ray"):
        executor("backwards")
