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


@pytest.mark.parametrize(("groups", "gains"), [(1, (0,)), (2, (0,)), (1, (2, 2, 8)), (2, (2, 1, 8)), (1, (2, 2, 1))])
def test_its_losses_are_those_of_the_scheme(
    groups: int, gains: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the descent's dense attention in spans, against the branches that are measured: float32 through two layers."""
    monkeypatch.setattr(near, "CHUNK", 60)
    model = checkpoints.llama(num_key_value_heads=2 // groups)
    geometry, parts, turns = geometry_of(model.config), split(model), turning(model)
    far = resolve(geometry, "yarn", make_params("yarn", {"factor": 4}), 256).rotation
    found = parameters.start(geometry, far, gains, torch.device("cpu"))
    with torch.no_grad():
        found.gains.copy_(torch.linspace(-1, 1, found.gains.numel()).reshape(gains))
    ids = torch.arange(200) * 7 % 384
    with opened(model, parts, turns, NEAR) as tunable, tunable.under(found):
        hidden = tunable.hidden(ids)
        mean_nll(parts.head, hidden[:-1], ids[1:]).backward()
    for name, tensor in found.named().items():
        assert tensor.grad is not None, name
        assert float(tensor.grad.abs().max()) > 0, name
    scheme = near_far(
        geometry, NEAR, query=Positions(), far=found.rotation(geometry), gains=found.query_gains(turns.heads, 8)
    )
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


def test_the_gradient_of_far_gains_is_the_slope_of_the_loss() -> None:
    """Against a difference of losses along the gradient, 2 % of it: float32, steps of 1e-2 on each side."""
    model = checkpoints.llama()
    geometry, parts, turns = geometry_of(model.config), split(model), turning(model)
    far = resolve(geometry, "yarn", make_params("yarn", {"factor": 4}), 256).rotation
    ids = torch.arange(200) * 7 % 384

    def loss(gains: torch.Tensor, *, backward: bool = False) -> tuple[float, torch.Tensor | None]:
        found = parameters.start(geometry, far, (2, 2, 8), torch.device("cpu"))
        with torch.no_grad():
            found.gains.copy_(gains)
        with opened(model, parts, turns, NEAR) as tunable, tunable.under(found):
            assert tunable.room.tokens == 0  # what far pairs keep is not in the estimate
            total = mean_nll(parts.head, tunable.hidden(ids)[:-1], ids[1:])
            if backward:
                total.backward()
        return float(total.detach()), found.gains.grad

    _, slope = loss(torch.zeros(2, 2, 8), backward=True)
    assert slope is not None
    step = 1e-2 * slope / slope.norm()
    difference = (loss(step)[0] - loss(-step)[0]) / 2e-2
    assert difference == pytest.approx(float(slope.norm()), rel=2e-2)


@pytest.mark.parametrize("what", ["rotation", "rotation+head+pair"])
def test_a_tuning_with_near_is_exact_inside_it_and_comes_back_from_its_file(
    asked: Any, tmp_path: Path, what: str
) -> None:
    found = tune(asked, Request(length=256, steps=2, near=(192,), what=what), tmp_path)
    own, far = found.scheme.branches
    assert (own.stop, far.start, own.rotation) == (192, 192, Rotation(inv_freq=own.rotation.inv_freq))
    assert far.rotation != own.rotation
    assert (own.gains, found.scheme.gains) == (None, None)
    assert (far.gains is not None and bool(far.gains.log.any())) == (what != "rotation")
    inside = found.result["short_cost"]["perplexity"]
    assert inside
    assert all(abs(each["value"] - 1) < 1e-6 for each in inside.values())
    assert f"({what} of tokens at least 192 away)" in (tmp_path / "tune.md").read_text()
    content = read(found.file)
    assert (content.near, content.rotation, content.gains) == (192, far.rotation, far.gains)
    plain = json.loads(json.dumps(content.plain()))
    geometry = geometry_of(checkpoints.llama(max_position_embeddings=192).config)
    again = resolve(geometry, "tuned", make_params("tuned", {"file": plain}), 256)
    assert again.scheme == found.scheme
    assert again.scheme.fingerprint == found.scheme.fingerprint


def test_of_several_near_the_tuning_set_chooses(asked: Any, tmp_path: Path) -> None:
    found = tune(asked, Request(length=256, steps=1, near=(64, 160), what="rotation+head"), tmp_path)
    seeds = found.result["seeds"]
    assert [each["label"] for each in seeds] == ["tuned near 64 seed 0", "tuned near 160 seed 0"]
    assert {path.name for path in tmp_path.glob("near-*")} == {f"near-{n}-seed-0.safetensors" for n in (64, 160)}
    best = min(seeds, key=lambda each: each["objective"])
    assert found.result["winner"] == best
    assert read(found.file).near == best["near"]
    judged = [each["label"] for each in found.result["judge"]["rows"]]
    assert judged[:3] == ["tuned", "tuned near 64 seed 0", "tuned near 160 seed 0"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"near": (64, 0)}, "tune: near=0 must be a number above 0; leave it out for the default."),
        ({"near": (64, 64)}, "tune: near=[64, 64] names a number of tokens twice; give each once."),
    ],
)
def test_what_cannot_be_tuned_near_is_refused(change: Any, said: str) -> None:
    with pytest.raises(ExperimentError, match=re.escape(said)):
        Request(length=256, **change)


def test_near_beyond_the_window_is_refused(asked: Any, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"tune: near=193 must be at most the trained window of 192 tokens"):
        tune(asked, Request(length=256, steps=1, near=(64, 193)), tmp_path)
    assert not list(tmp_path.iterdir())
