"""What layers keep for the backward pass: as much as memory holds, at the same numbers."""

from __future__ import annotations

from typing import Any

import folding_models
import numpy as np
import pytest
import torch
from descents import WINDOW, begin, rotation_of

from ropewalk.errors import ModelError
from ropewalk.models.size import ModelSize, size_of
from ropewalk.scoring import split
from ropewalk.scoring.memory import weight_bytes
from ropewalk.tuning import descent, draws, loss, memory
from ropewalk.tuning.forward import Tunable, opened
from ropewalk.tuning.order import Order
from ropewalk.tuning.pairs import turning

FITS, NOT = 10**6, 0
"""Tokens for which there is room."""


@pytest.mark.parametrize(("room", "calls"), [(FITS, 2), (NOT, 4)])
def test_layers_are_computed_again_only_where_they_do_not_fit(
    model: Any, tunable: Tunable, material: draws.Material, monkeypatch: pytest.MonkeyPatch, room: int, calls: int
) -> None:
    """A step is the unscaled model's pass, which has no gradient, the document's and the probe's."""
    monkeypatch.setattr(tunable.room, "tokens", room)
    found, counted = begin(model, tunable), list[int]()
    hook = model.model.layers[0].mlp.register_forward_pre_hook(lambda *args: counted.append(1))
    loss.descend(tunable, found, draws.draw(material, 3, 0), WINDOW, rotation_of(model, "none"), loss.Weights())
    hook.remove()
    assert len(counted) == 1 + calls


def test_what_is_kept_and_what_is_computed_again_give_the_same_bits(
    model: Any, tunable: Tunable, material: draws.Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so does a step of which one text fits and the other does not."""
    drawn, slopes = draws.draw(material, 3, 0), list[dict[str, Any]]()
    assert drawn.prompt is not None
    between = (len(drawn.text.ids) + len(drawn.prompt.ids)) // 2
    for tokens in (FITS, NOT, between):
        monkeypatch.setattr(tunable.room, "tokens", tokens)
        found = begin(model, tunable)
        loss.descend(tunable, found, drawn, WINDOW, rotation_of(model, "none"), loss.Weights())
        slopes.append({name: tensor.grad for name, tensor in found.named().items()})
    assert slopes[0]["gains"].abs().max() > 0
    for other in slopes[1:]:
        assert all(torch.equal(slope, other[name]) for name, slope in slopes[0].items())


@pytest.mark.parametrize("name", folding_models.NAMES)
def test_the_estimate_is_what_a_pass_keeps_and_not_much_more(name: str) -> None:
    """Counted by torch as it saves them, each storage once; weights were there before."""
    model, kept = folding_models.model_of(name), dict[int, int]()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    alive = list[torch.Tensor]()

    def saved(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            alive.append(tensor)  # else its place would be another's
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(saved, lambda tensor: tensor)
    with (
        opened(model, split(model), turning(model)) as tunable,
        tunable.under(begin(model, tunable, most(model))),
        hooks,
    ):
        hidden = tunable.hidden(torch.arange(256) % 100)
    assert hidden.requires_grad
    size = size_of(model, torch.float32, "cpu")
    assert 0.8 * sum(kept.values()) < memory.kept_bytes(size, 256) < 1.6 * sum(kept.values())


@pytest.mark.parametrize(
    ("length", "peak", "shape"),
    [
        (65536, 46.85e9, (134_515_008, 576, 1536, 192, 49152, 30)),
        (32768, 54.72e9, (1_235_814_400, 2048, 8192, 512, 128_256, 16)),
    ],
)
def test_with_all_kept_memory_is_what_a_gpu_took_and_at_most_a_quarter_more(
    length: int, peak: float, shape: tuple[int, ...]
) -> None:
    """Peaks of SmolLM2-135M and of Llama 3.2 1B's shape on one H100 (docs/results/tune.md, Cost of a step)."""
    parameters, hidden, intermediate, keys, vocabulary, layers = shape
    size = ModelSize(
        parameters=parameters, element_bytes=2, hidden=hidden, inner=3 * intermediate, head_dim=64,
        queries=hidden, keys=keys, vocabulary=vocabulary, layers=layers, sliding_window=None, device="cuda",
    )  # fmt: skip
    whole = weight_bytes(size) + memory.step_bytes(size, length) + memory.kept_bytes(size, length)
    assert peak < whole < 1.25 * peak


def most(model: Any) -> str:
    return "rotation+pair" if type(model).__name__.startswith(("Qwen3", "Gemma3")) else "rotation+head+pair"


def test_what_does_not_fit_is_made_again_with_nothing_kept(
    task: descent.Task, model: Any, tunable: Tunable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was half made is dropped; where nothing was kept it is refused."""
    monkeypatch.setattr(tunable.room, "tokens", FITS)
    whole, own = begin(model, tunable), loss.descend
    descent._gradient(task, whole, 0, Order())
    again, tried = begin(model, tunable), list[int]()

    def full(*args: Any) -> loss.Loss:
        tried.append(tunable.room.tokens)
        made = own(*args)
        if tunable.room.tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return made

    monkeypatch.setattr(descent, "descend", full)
    descent._gradient(task, again, 0, Order())
    assert tried == [FITS, NOT]
    for name, tensor in whole.named().items():
        assert torch.equal(tensor.grad, again.named()[name].grad)

    def none(*args: Any) -> loss.Loss:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(descent, "descend", none)
    with pytest.raises(ModelError, match=r"--length 256: a step of tuning did not fit .* free some"):
        descent._gradient(task, again, 0, Order())


def test_there_is_room_for_what_free_memory_holds_beside_a_step(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    size = size_of(model, torch.float32, "cpu")
    wanted = memory.step_bytes(size, 5000) + memory.kept_bytes(size, 5000)
    for bytes_, tokens in ((wanted, 5000), (0, 0)):
        monkeypatch.setattr(memory, "_rest", lambda size, free=bytes_: free / memory.KEPT["cpu"])
        assert np.isclose(memory.room_of(model).tokens, tokens, atol=2)
