"""Tuning what far tokens are told alone: near ones stay as trained, in the descent as in what is measured of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import checkpoints
from ropewalk.errors import ExperimentError
from ropewalk.methods import make_params, resolve
from ropewalk.methods.near_far import near_far
from ropewalk.methods.tuned_file import read
from ropewalk.models import patched
from ropewalk.models.geometry import geometry_of
from ropewalk.rope import Rotation
from ropewalk.scheme import Positions, Scheme
from ropewalk.scoring import fast, split
from ropewalk.scoring.loop import NllRow, score
from ropewalk.tuning import near, parameters
from ropewalk.tuning.asked import Request
from ropewalk.tuning.forward import mean_nll, opened
from ropewalk.tuning.pairs import turning
from ropewalk.tuning.run import tune

NEAR = 48


@pytest.mark.parametrize("groups", [1, 2])
def test_its_losses_are_those_of_the_scheme(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the descent's dense attention in spans, against the branches that are measured: float32 through two layers."""
    monkeypatch.setattr(near, "CHUNK", 60)
    model = checkpoints.llama(num_key_value_heads=2 // groups)
    geometry, parts, turns = geometry_of(model.config), split(model), turning(model)
    far = resolve(geometry, "yarn", make_params("yarn", {"factor": 4}), 256).rotation
    found = parameters.start(geometry, far, (0,), torch.device("cpu"))
    ids = torch.arange(200) * 7 % 384
    with opened(model, parts, turns, NEAR) as tunable, tunable.under(found):
        hidden = tunable.hidden(ids)
        mean_nll(parts.head, hidden[:-1], ids[1:]).backward()
    assert found.ln_lambda.grad is not None
    assert float(found.ln_lambda.grad.abs().max()) > 0
    scheme = near_far(geometry, NEAR, query=Positions(), far=found.rotation(geometry))
    with fast(model, parts, compiled=False) as quick:
        rows = [NllRow(ids=ids.numpy().astype(np.int32), scheme=scheme)]
        ((_, expected),) = next(iter(score(model, quick, rows, 512)))
    own = parts.head.nll(hidden[:-1], ids[1:]).detach()
    assert float((own - torch.as_tensor(expected)).abs().max()) < 1e-4
    plain = Scheme(rotation=Rotation(inv_freq=geometry.unscaled_inv_freq))
    with torch.no_grad(), patched(model, plain):
        trained = parts.head.nll(parts.body(ids[None])[0, :-1], ids[1:])
    assert float((own - trained)[: NEAR - 1].abs().max()) < 1e-5
    assert float((own - trained)[NEAR:].abs().max()) > 1e-3


def test_a_tuning_with_near_is_exact_inside_it_and_comes_back_from_its_file(asked: Any, tmp_path: Path) -> None:
    found = tune(asked, Request(length=256, steps=2, near=192), tmp_path)
    own, far = found.scheme.branches
    assert (own.stop, far.start, own.rotation) == (192, 192, Rotation(inv_freq=own.rotation.inv_freq))
    assert far.rotation != own.rotation
    inside = (
        found.result["judge"]["short_cost"]["perplexity"]
        if "short_cost" in found.result["judge"]
        else (found.result["short_cost"]["perplexity"])
    )
    assert all(abs(each["value"] - 1) < 1e-6 for each in inside.values())
    content = read(found.file)
    assert (content.near, content.rotation) == (192, far.rotation)
    plain = json.loads(json.dumps(content.plain()))
    geometry = geometry_of(checkpoints.llama(max_position_embeddings=192).config)
    again = resolve(geometry, "tuned", make_params("tuned", {"file": plain}), 256)
    assert again.scheme == found.scheme


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"near": 0}, "tune: near=0 must be more than 0; leave it out for the default."),
        ({"near": 64, "what": "rotation+head"}, "tune: near=64 tunes the rotation of far tokens alone, as gains"),
    ],
)
def test_what_cannot_be_tuned_near_is_refused(change: Any, said: str) -> None:
    with pytest.raises(ExperimentError, match=re.escape(said)):
        Request(length=256, **change)


def test_near_beyond_the_window_is_refused(asked: Any, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"tune: near=193 must be at most the trained window of 192 tokens"):
        tune(asked, Request(length=256, steps=1, near=193), tmp_path)
    assert not list(tmp_path.iterdir())
