"""A model that knows some answers through the whole chain: forcing them says what generating would."""

from __future__ import annotations

import numpy as np
import pytest

from ropewalk.execution.rerun import verify_passes
from ropewalk.execution.run import sweep
from ropewalk.execution.worker import said
from ropewalk.experiment import schema
from ropewalk.experiment.prepare import ask, encoder
from ropewalk.experiment.verify import verify_rows
from ropewalk.methods import make_params, resolve
from ropewalk.metrics import passkey
from ropewalk.metrics.metric import Material, OfPrompt
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
    asked = passkey.Passkey(trials=8)
    of = Material(encode=encoder(words), encode_whole=encoder(words), chat=None, bos_id=None, prose=(), seed=1)
    built = passkey.prompts(asked, of, length)
    parts = split(strand.model)
    rows = [
        AnswerRow(ids=each.ids, scheme=Scheme(rotation=turn), answer_tokens=each.answer_tokens)
        for each in (prompt.request for prompt in built)
    ]
    forced = dict(pair for batch in score(strand.model, parts, rows, 2048) for pair in batch)
    judged = []
    for index, prompt in enumerate(built):
        answer, predicted = prompt.request.answer, forced[index].predicted.tolist()
        size = len(answer)
        text = said(words, answer, predicted)
        unit = OfPrompt(unit="", facts=prompt.facts, answer=answer, predicted=predicted, nll=None, text=text)
        success = passkey.found(unit)
        spoken = generate(strand.model, prompt.request.ids[:-size], turn, size + 1)
        agrees = spoken[:size].tolist() == answer
        stops = len(spoken) <= size or not said(words, answer, spoken[size:].tolist())[:1].isdigit()
        assert success == (agrees and stops)
        if agrees:
            assert predicted[: len(spoken)] == spoken.tolist()
        judged.append(success)
    assert np.mean(judged) == 1.0 if length == 160 else np.mean(judged) < 1.0
