"""A tuning directory of somebody else: what it holds of another kind, shape or depth than any tuning writes is refused
in a sentence that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from ropewalk.errors import StoreError
from ropewalk.rope import Rotation
from ropewalk.scheme import Scheme
from ropewalk.tuning import kept, run, state

DEEP = "[" * 10**5
LIKE = {"a": torch.zeros(2), "a.exp_avg": torch.zeros(2)}
FACTS = {"steps": 3, "wall_s": 1.5, "stopped": ""}
STATES: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, DEEP),
    ({}, "7"),
    ({}, json.dumps(FACTS | {"more": 1})),
    ({}, json.dumps(FACTS | {"steps": "3"})),
    ({}, json.dumps(FACTS | {"steps": 0})),
    ({}, json.dumps(FACTS | {"wall_s": None})),
    ({}, json.dumps(FACTS | {"stopped": [1]})),
    ({}, json.dumps(FACTS | {"unordered": None})),
    ({"losses": torch.zeros(3)}, json.dumps(FACTS)),
    ({"losses": torch.zeros(4, 3, dtype=torch.float64)}, json.dumps(FACTS)),
    ({"losses": torch.zeros(1, 3, dtype=torch.int64)}, json.dumps(FACTS)),
    ({"a": torch.zeros(3)}, json.dumps(FACTS)),
    ({"a": torch.zeros(2, dtype=torch.int32)}, json.dumps(FACTS)),
    ({"a": torch.tensor([0.0, float("nan")])}, json.dumps(FACTS)),
    ({"b": torch.zeros(2)}, json.dumps(FACTS)),
)


@pytest.mark.parametrize(("tensors", "facts"), STATES)
def test_a_state_of_another_kind(tensors: Any, facts: str, tmp_path: Path) -> None:
    whole = LIKE | {"losses": torch.zeros(1, 3, dtype=torch.float64)} | tensors
    (tmp_path / "s").write_bytes(safetensors.torch.save(whole, {"state": facts}))
    with pytest.raises(StoreError, match=r"s: is damaged \(.*\); remove it, and this seed begins anew"):
        state.read(tmp_path, "s", LIKE)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert state.read(tmp_path, "s", LIKE) is None
    state.write(tmp_path, "s", state.State(steps=3, tensors=LIKE, losses=np.ones((2, 3)), wall_s=2.5, unordered="so"))
    found = state.read(tmp_path, "s", LIKE)
    assert found is not None
    assert (found.steps, found.done, found.wall_s, found.stopped, found.unordered) == (3, 2, 2.5, "", "so")
    assert found.tensors.keys() == LIKE.keys()


def test_of_a_state_of_earlier_it_is_not_known_how_it_was_summed(tmp_path: Path) -> None:
    tensors = LIKE | {"losses": torch.zeros(1, 3, dtype=torch.float64)}
    (tmp_path / "s").write_bytes(safetensors.torch.save(tensors, {"state": json.dumps(FACTS)}))
    found = state.read(tmp_path, "s", LIKE)
    assert found is not None
    assert found.unordered == "it was begun by a version of ropewalk that kept no record of it"


SCHEME = Scheme(rotation=Rotation(inv_freq=np.ones(2)))
ANSWER = [64, 0, [0.5, 0.25], [7, 8, 9]]
ANSWERS = (
    DEEP, "7", "[7]", "[]", json.dumps([ANSWER, ANSWER[:3]]), json.dumps([[64, 1, *ANSWER[2:]]]),
    json.dumps([[64, 0, [0.5], [7, 8, 9]]]), json.dumps([[64, 0, [0.5, 0.25], [7, 8]]]),
    json.dumps([[64, 0, [[0.5], [0.25]], [7, 8, 9]]]),
    json.dumps([[64, 0, [0.5, 0.25], [7, 8, 2**70]]]), json.dumps([[64, 0, [0.5, "x"], [7, 8, 9]]]),
    json.dumps([[[], 0, *ANSWER[2:]]]),
)  # fmt: skip


def judge(out: Path) -> kept.KeptBench:
    trial = SimpleNamespace(answer_tokens=2)
    bench: Any = SimpleNamespace(documents=(np.arange(4),), trials={64: [trial]})
    return kept.KeptBench(bench=bench, out=out, prompts="filler", told=lambda *told: None)


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_of_another_kind(text: str, tmp_path: Path) -> None:
    (tmp_path / "judged").mkdir()
    path = tmp_path / "judged" / f"{SCHEME.fingerprint}-filler.json"
    path.write_text(text)
    with pytest.raises(StoreError, match="is damaged"):
        judge(tmp_path).answers([SCHEME])
    path.write_text(json.dumps([ANSWER]))
    assert judge(tmp_path).answers([SCHEME])[0][64, 0].predicted.tolist() == [7, 8, 9]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "nll", [np.zeros(4, np.float32), np.zeros((3, 1), np.float32), np.zeros(3, np.int64), np.zeros(3, np.float64)]
)
def test_losses_of_another_kind(nll: Any, tmp_path: Path) -> None:
    (tmp_path / "judged").mkdir()
    path = tmp_path / "judged" / f"{SCHEME.fingerprint}-0.safetensors"
    path.write_bytes(safetensors.numpy.save({"nll": nll}))
    with pytest.raises(StoreError, match="is damaged"):
        judge(tmp_path).losses([SCHEME], 0)
    path.write_bytes(safetensors.numpy.save({"nll": np.zeros(3, np.float32)}))
    assert len(judge(tmp_path).losses([SCHEME], 0)[0]) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [DEEP, "x", "\x80"])
def test_an_identity_of_another_kind(text: str, tmp_path: Path) -> None:
    (tmp_path / run.IDENTITY).write_text(text, encoding="latin-1")
    with pytest.raises(StoreError, match=r"identity.json: is no JSON; choose another --out"):
        run._begin(tmp_path, {"length": 1})
