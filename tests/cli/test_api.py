"""The Python API says and refuses what the command line does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ropewalk as rw
from ropewalk.errors import CorpusError, ExperimentError, MethodError


@pytest.fixture
def asked(texts, tiny):
    return {
        "model": str(tiny),
        "methods": {"linear": {"factor": 2}},
        "lengths": [64],
        "documents": {"files": [str(texts / "*.txt")]},
        "dtype": "float32",
    }


def test_a_sweep_is_the_run_of_the_same_experiment(asked, tmp_path, ropewalk):
    run = rw.sweep(**asked, out=tmp_path / "run", seed=5, window=256)
    frame = run.frame()
    assert set(frame.metric) == {"perplexity", "tail", "bits_per_byte"}
    assert set(frame.label) == {"none", "linear factor=2"}
    assert run.meta["experiment"]["seed"] == 5
    assert run.meta["geometry"]["window"] == 256
    assert ropewalk("verify", run.directory).code == 0
    assert rw.sweep(**asked, out=str(tmp_path / "run"), seed=5, window=256).rows() == run.rows()


def test_a_model_in_memory_is_measured_as_it_is(asked, tmp_path):
    found = rw.load(asked["model"], dtype="float32")
    named = rw.sweep(**asked, out=tmp_path / "named")
    run = rw.sweep(**(asked | {"model": found}), out=tmp_path / "run")
    assert run.rows() == named.rows()
    found.model.lm_head.weight.mul_(1.01)
    other = rw.sweep(**(asked | {"model": found}), out=tmp_path / "other")
    assert all(one["value"] != two["value"] for one, two in zip(run.rows(), other.rows(), strict=True))
    with pytest.raises(ExperimentError, match=r"^exact: the model '.*' in memory keeps its dtype and attention; give"):
        rw.sweep(**(asked | {"model": found}), out=tmp_path / "exact", exact=True)


def test_methods_without_parameters_may_be_a_list(asked, tmp_path):
    run = rw.sweep(**(asked | {"methods": ["none", "llama3"]}), out=tmp_path / "run")
    assert run.frame().method.unique().tolist() == ["none", "llama3"]


@pytest.mark.parametrize(
    ("changes", "kind", "expected"),
    [
        ({"documents": {}}, CorpusError, r"^documents names no source; write \{corpus: builtin\}"),
        ({"metrics": {}}, ExperimentError, r"^sweep: metrics=\{\}: names no metric"),
        ({"methods": {}}, ExperimentError, r"^sweep: methods=\{\}: must map method names"),
        ({"lengths": []}, ExperimentError, r"^sweep: lengths=\[\]: must hold at least one value"),
        ({"dtype": "int8"}, ExperimentError, r"^sweep: dtype='int8': must be"),
        ({"methods": {"yran": {}}}, MethodError, r"^there is no method 'yran'; did you mean 'yarn'"),
    ],
)
def test_nothing_given_is_not_the_default(asked, tmp_path, changes, kind, expected):
    with pytest.raises(kind, match=expected):
        rw.sweep(**(asked | changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_under_a_rotation_of_one_s_own(tiny):
    found = rw.load(str(tiny), dtype="float32")
    ids = torch.arange(3, 99)[None]
    with torch.no_grad():
        before = found.model(ids).logits
        with rw.patched(found.model, rw.rotation(found.geometry, "yarn", 256, factor=4)):
            inside = found.model(ids).logits
        after = found.model(ids).logits
    assert torch.equal(before, after)
    assert (before - inside).abs().max() > 0.1


def test_rotations_are_values():
    geometry = rw.RopeGeometry(rotary_dim=16, rope_theta=10000.0, max_position_embeddings=128)
    one = rw.rotation(geometry, "linear", 256, factor=2)
    assert np.array_equal(one.inv_freq * 2, geometry.unscaled_inv_freq)
    assert one == rw.rotation(geometry, "linear", 256, factor="auto")


def test_every_public_name_is_there():
    for name in rw.__all__:
        assert getattr(rw, name) is not None
    with pytest.raises(AttributeError, match=r"^module 'ropewalk' has no attribute 'swep'$"):
        _ = rw.swep
