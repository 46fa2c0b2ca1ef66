"""Random two-layer checkpoints of every supported architecture through a whole run, with verification and report."""

from __future__ import annotations

import pytest
import tiny_models
from harness import run, statuses

import checkpoints
from ropewalk.execution.rerun import verify_passes
from ropewalk.experiment.verify import verify_rows


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    path = tmp_path_factory.mktemp("prose") / "text.txt"
    path.write_text(checkpoints.prose(5, words=200), encoding="utf-8")
    return path


@pytest.mark.parametrize("architecture", tiny_models.ARCHITECTURES)
def test_every_architecture_runs_and_verifies(architecture, prose, tmp_path):
    tiny_models.silence()
    tiny_models.model_of(architecture).save_pretrained(tmp_path / "model")
    tiny_models.tokenizer().save_pretrained(tmp_path / "model")
    asked = {
        "model": str(tmp_path / "model"),
        "dtype": "float32",
        "lengths": [448, 512],  # the window is 256; a passkey prompt of one token per character takes 440
        "documents": {"files": [str(prose)]},
        "methods": {"yarn": {"factor": 2}, "dynamic_ntk": {"factor": 2}},
        "metrics": {"perplexity": {}, "passkey": {"trials": 1}},
    }
    found = run(asked, tmp_path / "run")
    assert statuses(found) == {"ok"}
    rows = [row for row in found.labelled_rows() if row["metric"] == "tail" and row["length"] == 512]
    tails = {row["label"]: row["value"] for row in rows}
    assert len(set(tails.values())) == len(tails), "rotations make no difference"
    assert verify_rows(found.directory)[1] == []
    assert verify_passes(found.directory, 3) == (3, [])
