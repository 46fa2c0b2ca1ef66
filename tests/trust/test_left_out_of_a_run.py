"""A run says which fast paths it went without, and its numbers are those of the model."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from harness import run, statuses

import checkpoints
from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment.raw import Raw
from ropewalk.experiment.store import Store
from ropewalk.report import provenance
from ropewalk.report.study import read

LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
EXPERTS = {"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
INDEXED = {"index_topk": 8, "index_head_dim": 16, "index_n_heads": 2, "n_shared_experts": 1, "head_dim": 8}


def test_sparse_attention_through_a_whole_run(tmp_path, caplog):
    tiny_models.silence()
    torch.manual_seed(0)
    changes = {**LATENT, **EXPERTS, **INDEXED, "num_key_value_heads": 4}
    model = transformers.GlmMoeDsaForCausalLM(transformers.GlmMoeDsaConfig(**{**tiny_models.SMALL, **changes})).eval()
    model.save_pretrained(tmp_path / "model")
    tiny_models.tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text(checkpoints.prose(5, words=200), encoding="utf-8")
    asked = {
        "model": str(tmp_path / "model"),
        "dtype": "float32",
        "lengths": [448],
        "documents": {"files": [str(tmp_path / "text.txt")]},
        "methods": {"none": {}},
        "metrics": {"perplexity": {}, "passkey": {"trials": 1}},
    }
    found = run(asked, tmp_path / "run")
    assert statuses(found) == {"ok"}
    (note,) = found.meta["left_out"]
    assert note.startswith("GlmMoeDsaForCausalLM: the fast attention is left out: ")
    assert found.meta["attention"] == "sdpa"
    assert note in [record.getMessage() for record in caplog.records]
    assert ("left out", note) in provenance.table(read(found.directory).run).rows
    assert verify_passes(found.directory, 3)[1] == []
    store = Store.open_run(found.directory, read_only=True)
    (outcomes,) = [outcomes for (feed, _), outcomes in Raw.read(store).index.passes.items() if not feed.start]
    losses = store.read_arrays(outcomes[448].file, outcomes[448].sha256)["nll"]
    ids = torch.from_numpy(store.read_arrays("documents.safetensors", store.meta("documents_sha256"))["0.ids"]).long()
    store.close()
    with torch.no_grad():
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    expected = torch.nn.functional.cross_entropy(logits, ids[1:448], reduction="none").numpy()
    assert np.abs(losses - expected).max() == pytest.approx(0, abs=1e-4)
