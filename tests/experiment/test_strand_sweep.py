"""A model that knows some answers through the whole chain: forcing them says what generating would."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ropewalk.experiment import schema
from ropewalk.experiment import trials as run_trials
from ropewalk.experiment.prepare import ask
from ropewalk.experiment.rerun import verify_passes
from ropewalk.experiment.run import sweep
from ropewalk.experiment.verify import verify_rows
from ropewalk.methods import make_params, resolve
from ropewalk.metrics import passkey
from ropewalk.models import ModelSpec, load
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, score, split
from ropewalk.scoring.generate import generate

EXPERIMENT = {
    "model": "strand",
    "dtype": "float32",
    "lengths": [128, 288],
    "documents": {"corpus": "builtin", "count": 2},
    "methods": {"yarn": {"factor": 2}},
    "metrics": {"perplexity": {}, "passkey": {"trials": 3}},
}


@pytest.fixture(scope="module")
def strand():
    return load(ModelSpec.parse("strand"), dtype="float32")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return sweep(ask(schema.parse(EXPERIMENT, "test")), tmp_path_factory.mktemp("strand") / "run")


def test_everything_verifies(run):
    assert verify_rows(run.directory)[1] == []
    assert verify_passes(run.directory, 4) == (4, [])
    found = [row for row in run.rows() if row["metric"] == "passkey" and row["length"] == 128]
    assert [row["value"] for row in found] == [1.0, 1.0]


@pytest.mark.parametrize(("length", "method"), [(160, "none"), (480, "none")])
def test_exact_is_what_generate_gives(strand, length, method):
    """On a model that knows some answers and not others, token by token and for the text after them."""
    words, turn = strand.tokenizer, resolve(strand.geometry, method, make_params(method, {}), length).rotation
    built = passkey.build_trials(run_trials.encoder(words), length, 8, seed=1)
    parts = split(strand.model)
    rows = [
        AnswerRow(ids=trial.ids, scheme=Scheme(rotation=turn), answer_tokens=trial.answer_tokens) for trial in built
    ]
    forced = dict(pair for batch in score(strand.model, parts, rows, 2048) for pair in batch)
    judged = []
    for trial in built:
        row = run_trials.outcome_row(words, turn.fingerprint, length, trial, forced[trial.index])
        answer = trial.ids[-trial.answer_tokens :]
        spoken = generate(strand.model, trial.ids[: -trial.answer_tokens], turn, trial.answer_tokens + 1)
        agrees = spoken[: trial.answer_tokens].tolist() == answer.tolist()
        stops = (
            len(spoken) <= trial.answer_tokens
            or not run_trials.said(words, answer.tolist(), spoken[trial.answer_tokens :].tolist())[:1].isdigit()
        )
        assert bool(row["success"]) == (agrees and stops)
        if agrees:
            assert json.loads(row["predicted"])[: len(spoken)] == spoken.tolist()
        judged.append(row["success"])
    assert np.mean(judged) == 1.0 if length == 160 else np.mean(judged) < 1.0
