"""A run of a model whose attention reads mscale_all_dim: two softmax scales in one sweep, stored and verified."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from runs_for_tests import run

import checkpoints
from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.results import Run
from ropewalk.experiment.store import Store
from ropewalk.experiment.verify import verify_rows

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
BOTH = {"mscale": 1.0, "mscale_all_dim": 0.7}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}


def deepseek(rope: dict[str, Any]) -> Any:
    config = transformers.MiniCPM3Config(
        **checkpoints.config().to_diff_dict() | {"num_key_value_heads": 2, "rope_parameters": dict(rope)},
        qk_rope_head_dim=16,
        qk_nope_head_dim=8,
        v_head_dim=24,
        kv_lora_rank=16,
        q_lora_rank=16,
    )
    torch.manual_seed(0)
    return transformers.MiniCPM3ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, words: Any, base_experiment: dict[str, Any]) -> Run:
    model = checkpoints.save(tmp_path_factory.mktemp("deepseek"), deepseek(YARN | BOTH), words)
    asked = base_experiment | {
        "model": str(model),
        "lengths": [192],
        "methods": {"linear": {"factor": 2}, "yarn": {"factor": 4, "original_max_position_embeddings": 32, **BOTH}},
        "metrics": {"perplexity": {}},
    }
    return run(asked, tmp_path_factory.mktemp("runs") / "run")


def test_losses_are_those_of_stock_models_with_that_config(made: Run) -> None:
    raw = Raw.read(Store.open_run(made.directory, read_only=True))
    ids = torch.from_numpy(raw.store.read_arrays("documents.safetensors", raw.store.meta("documents_sha256"))["0.ids"])
    ids = ids[None, :192].long()
    for label, rope in {"none": YARN | BOTH, "linear factor=2": LINEAR}.items():
        cell = next(c for c in raw.plan().cells if (c.label, c.metric) == (label, "perplexity"))
        found = raw.losses(cell.fingerprint, 0, cell.readings[0])
        with torch.no_grad():
            logits = deepseek(rope)(input_ids=ids, use_cache=False).logits[0, :-1]
        expected = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").numpy()
        assert isinstance(found, np.ndarray)
        assert np.abs(found - expected[-found.size :]).max() < 1e-3, label
    raw.store.close()


def test_it_verifies_and_what_ships_is_one_measurement_with_the_same_yarn(made: Run) -> None:
    assert verify_rows(made.directory)[1] == []
    assert verify_passes(made.directory, 4) == (4, [])
    assert len({row["fingerprint"] for row in made.labelled_rows()}) == 2
