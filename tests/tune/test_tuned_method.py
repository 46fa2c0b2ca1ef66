"""The file that tuning writes comes back to the bit, as file and as JSON; anything else is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from ropewalk.errors import MethodError
from ropewalk.methods.method import parameters
from ropewalk.methods.near_far import near_far
from ropewalk.methods.tuned import Tuned, tuned
from ropewalk.methods.tuned_file import content, read
from ropewalk.models.pairs import Pairs
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Gains, Positions, Scheme
from ropewalk.tuning import winner
from ropewalk.tuning.pairs import Turning

GEOMETRY = RopeGeometry(rotary_dim=8, rope_theta=10000.0, max_position_embeddings=128)
DRAW = np.random.default_rng(0)
SCHEME = Scheme(
    rotation=Rotation(inv_freq=GEOMETRY.unscaled_inv_freq / [1, 1.1, 2, 4], attention_factor=1.07),
    gains=Gains(log=DRAW.normal(0, 0.1, (2, 3, 4)).astype(np.float32)),
)
PAIRS = Pairs(
    pair=torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, -1, -1]),
    partner=torch.tensor([4, 5, 6, 7, 0, 1, 2, 3, 8, 9]),
    sign=torch.tensor([-1.0] * 4 + [1.0] * 4 + [0.0] * 2),
)
TURNS = Turning(turn=PAIRS, layers=(0, 1), depth=2, heads=3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / winner.FILE
    path.write_bytes(winner.content(SCHEME, GEOMETRY, TURNS, {"model": "é", "length": 512}))
    return path


OWN = DRAW.normal(0, 0.1, (2, 3, 4)).astype(np.float32)
GAINS = {
    "of each head and pair": OWN,
    "of each head": np.broadcast_to(OWN[:, :, :1], OWN.shape),
    "of each layer and pair": np.broadcast_to(OWN[:, :1], OWN.shape),  # a view without an order of its own
    "turned": OWN.transpose(0, 2, 1).reshape(2, 3, 4, order="F"),
}


@pytest.mark.parametrize("near", [None, 100])
@pytest.mark.parametrize("gains", [None, *GAINS])
def test_a_scheme_comes_back_to_the_bit(gains: str | None, near: int | None, tmp_path: Path) -> None:
    logs = None if gains is None else Gains(log=GAINS[gains])
    scheme = Scheme(rotation=SCHEME.rotation, gains=logs)
    if near is not None:
        scheme = near_far(GEOMETRY, near, query=Positions(), far=SCHEME.rotation, gains=logs)
    path = tmp_path / "one.safetensors"
    path.write_bytes(winner.content(scheme, GEOMETRY, TURNS, {"length": 512}))
    kind = parameters(Tuned)["file"].kind
    plain = json.loads(json.dumps(kind.inline(str(path))))
    found = tuned(GEOMETRY, Tuned(file=kind.admit(plain)), 512)
    assert found.fingerprint == scheme.fingerprint
    assert (found.far.inv_freq == scheme.far.inv_freq).all()
    assert found.far.attention_factor == 1.07
    assert found == scheme
    assert read(path).pairs == tuple(TURNS.pairs.tolist())
    assert kind.plain(kind.admit(plain)) == plain


def test_another_model_is_refused(file: Path) -> None:
    other = RopeGeometry(rotary_dim=8, rope_theta=500000.0, max_position_embeddings=128)
    with pytest.raises(MethodError, match=r"4 pairs over rope_theta 10000, .* 4 over 500000; tune again"):
        tuned(other, Tuned(file=read(file)), 128)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema 2, and this ropewalk reads 1"),
        ({"rope_theta": 0.5}, "rope_theta 0.5 is no base"),
        ({"length": 0}, "length 0 is no number of tokens"),
        ({"pairs": [0, 1, 2, 3]}, "pairs do not name each of 4 pairs twice"),
        ({"pairs": [0, 1, 2, 3, 0, 1, 2, 3, -2]}, "pairs do not name"),
        ({"gains": {"shape": [1, 1, 1], "float32": "AAAAAA=="}}, "gains of 1 pairs beside 4"),
        ({"gains": {"shape": [1], "float32": "AACAfw=="}}, "gains must be finite"),
        ({"inv_freq": "not base64"}, "cannot be"),
        ({"attention_factor": "much"}, "cannot be"),
        ({"extra": 1}, "as keys"),
        ({"tuned_on": ["emma"]}, "tuned_on names no SHA-256 of documents"),
        ({"tuned_on": 64 * "a"}, "tuned_on names no SHA-256 of documents"),
        ({"tuned_on": 7}, "cannot be"),
        ({"weights_sha256": "strand"}, "weights_sha256 'strand' is no SHA-256"),
        ({"weights_sha256": 7}, "weights_sha256 7 is no SHA-256"),
    ],
)
def test_content_that_cannot_be_is_refused(change: dict[str, Any], said: str, file: Path) -> None:
    with pytest.raises(MethodError, match=said):
        content(read(file).plain() | change, "file")


def test_files_that_are_something_else_are_refused(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    cases = {
        "empty": b"",
        "cut": whole[:-4],
        "long header": b"\xff" * 8 + whole[8:],
        "no json": whole[:8] + b"?" * (len(whole) - 8),
        "other": safetensors.numpy.save({"x": np.zeros(2, dtype=np.float32)}),
        "deep": (len(deep := b"[" * 900_000)).to_bytes(8, "little") + deep,
    }
    for name, data in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(MethodError, match=r"no such file .*; name a winner.safetensors"):
            read(path)
    with pytest.raises(MethodError, match=r"cannot be read \(No such file"):
        read(tmp_path / "missing")
    with pytest.raises(MethodError, match="only an experiment file or an argument may"):
        parameters(Tuned)["file"].kind.admit("a.safetensors")
