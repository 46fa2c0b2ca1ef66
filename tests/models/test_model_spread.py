"""A model spread by accelerate's hooks scores as it does whole: patch, attention, compiled layers and head."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from accelerate.hooks import add_hook_to_module, remove_hook_from_module
from torch import Tensor, nn

from ropewalk.errors import ModelError
from ropewalk.methods import make_params, resolve
from ropewalk.models import LoadedModel, ModelSpec, load
from ropewalk.models.in_memory import borrowed
from ropewalk.models.layout import rotary_module
from ropewalk.models.spread import HOOK, Moved, Sent, forward_name, lighten
from ropewalk.scheme import Scheme
from ropewalk.scoring import NllRow, fast, score, split
from ropewalk.scoring.budget import in_flight
from ropewalk.scoring.decoding import PromptRow, generate_shared
from ropewalk.scoring.kernels import layers_of
from ropewalk.scoring.loop import AnswerRow
from ropewalk.scoring.shared import score_shared
from ropewalk.tuning import draws, loss, parameters
from ropewalk.tuning.forward import opened
from ropewalk.tuning.pairs import turning


@pytest.fixture
def spread(tiny) -> LoadedModel:
    """The tiny model with a hook on everything, as over two devices; its decoder has two layers."""
    loaded = load(ModelSpec.parse(str(tiny)), dtype="float32")
    names = ("embed_tokens", "layers.0", "layers.1", "norm", "rotary_emb")
    places = {f"model.{name}": "cpu" for name in names} | {"lm_head": "cpu"}
    dispatch_model(loaded.model, device_map=places, force_hooks=True)
    lighten(loaded.model)
    return loaded


def losses(loaded: LoadedModel, **fast_way: Any) -> np.ndarray:
    rotations = [
        resolve(loaded.geometry, name, make_params(name, given), 256).rotation
        for name, given in (("none", {}), ("yarn", {"factor": 4}))
    ]
    ids = np.random.default_rng(0).integers(2, 300, 256).astype(np.int32)
    rows = [NllRow(ids=ids, scheme=Scheme(rotation=rotation)) for rotation in rotations]
    with fast(loaded.model, split(loaded.model), **fast_way) as parts:
        found = dict(one for batch in score(loaded.model, parts, rows, 512) for one in batch)
    return np.stack([found[0], found[1]])


def test_losses_are_those_of_the_whole_model(spread, loaded):
    before = {id(module): module.forward for module in spread.model.modules()}
    assert np.array_equal(losses(spread, compiled=False), losses(loaded, compiled=False))
    after = {id(module): module.forward for module in spread.model.modules()}
    assert before.keys() == after.keys()
    assert all(before[key] == after[key] for key in before)


@pytest.fixture
def cut(spread) -> LoadedModel:
    """The same, whose second layer is on another device as far as its hook can tell: what it is given is copied."""
    getattr(layers_of(spread.model)[1], HOOK).device = torch.device("cpu", 0)
    return spread


def answers(loaded: LoadedModel) -> list[list[float]]:
    """Losses of answers after a shared beginning, and what is said after it."""
    schemes = [
        Scheme(rotation=resolve(loaded.geometry, "yarn", make_params("yarn", {"factor": factor}), 96).rotation)
        for factor in (2, 4)
    ]
    ids = np.random.default_rng(1).integers(2, 300, (2, 96)).astype(np.int32)
    ids[1, :64] = ids[0, :64]
    fed = [AnswerRow(ids=each, scheme=scheme, answer_tokens=4) for scheme in schemes for each in ids]
    asked = [PromptRow(ids=each, scheme=scheme, new_tokens=4) for scheme in schemes for each in ids]
    with fast(loaded.model, split(loaded.model), compiled=False) as parts:
        assert parts.held
        told = dict(one for batch in score_shared(loaded.model, parts, fed, 512) for one in batch)
        said = dict(one for batch in generate_shared(loaded.model, parts, asked, 512, str) for one in batch)
    return [[*told[place].nll, *told[place].predicted, *said[place]] for place in range(4)]


def gradients(loaded: LoadedModel, *, again: bool) -> list[Tensor]:
    """Of a step of tuning, whose layers keep what the backward pass needs, or are computed again in it."""
    model = loaded.model.requires_grad_(False)
    draw = np.random.default_rng(2)
    ids, asked = (draw.integers(2, 300, count).astype(np.int32) for count in (192, 96))
    none = resolve(loaded.geometry, "none", make_params("none", {}), 192).rotation
    parts, turns = split(model), turning(model)
    with opened(model, parts, turns) as tunable:
        tunable.room.tokens = 0 if again else 10**6
        shape = parameters.shape_of("rotation+head+pair", turns)
        begins = parameters.start(loaded.geometry, none, shape, torch.device("cpu"))
        prompt = draws.Prompt(ids=asked, answer_tokens=4, needle=slice(0, 0))
        drawn = draws.Draw(text=draws.whole(ids, 128), prompt=prompt)
        loss.descend(tunable, begins, drawn, 128, none, loss.Weights())
    return [tensor.grad for tensor in begins.named().values()]


def test_a_cut_model_scores_answers_says_and_is_tuned_as_the_whole(cut, loaded):
    copied, make = [], Moved._copy

    def counted(self: Moved, given: Tensor) -> Tensor:
        copied.append(given.device != self.device)
        return make(self, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Moved, "_copy", counted)
        found = losses(cut, compiled=False), answers(cut)
        slopes = [gradients(cut, again=again) for again in (False, True)]
    assert any(copied)
    assert np.array_equal(found[0], losses(loaded, compiled=False))
    assert found[1] == answers(loaded)
    whole = gradients(loaded, again=False)
    assert all(tensor.abs().max() > 0 for tensor in whole)
    for each in slopes:
        assert all(torch.equal(one, other) for one, other in zip(each, whole, strict=True))


def test_hooks_stay_on_layers_alone(spread):
    for layer in layers_of(spread.model):
        assert hasattr(layer, HOOK)
        assert not [name for name, module in layer.named_modules() if name and hasattr(module, HOOK)]
        assert forward_name(layer) == "_old_forward"
    assert forward_name(rotary_module(spread.model)) == "forward"


def test_the_rotation_is_computed_where_the_first_layer_is(tiny, loaded):
    """accelerate puts it on the last device; one that computes nothing here would give no losses."""
    elsewhere = load(ModelSpec.parse(str(tiny)), dtype="float32")
    places = {f"model.{name}": "cpu" for name in ("embed_tokens", "layers.0", "layers.1", "norm", "rotary_emb")}
    dispatch_model(elsewhere.model, device_map=places | {"lm_head": "cpu"}, force_hooks=True)
    getattr(rotary_module(elsewhere.model), HOOK).execution_device = "meta"
    lighten(elsewhere.model)
    assert np.array_equal(losses(elsewhere, compiled=False), losses(loaded, compiled=False))


def test_what_replaces_a_forward_stays_below_the_hook(spread):
    from ropewalk.models.replaced import replaced

    layer, seen = layers_of(spread.model)[0], []
    own = layer._old_forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return own(*args, **kwargs)

    hooked = layer.forward
    with replaced(layer, counted, forward_name(layer)), torch.inference_mode():
        assert layer.forward is hooked  # what moves its inputs still runs first
        spread.model(torch.arange(2, 40)[None])
    assert seen == [1]
    assert layer._old_forward == own


class Layer(nn.Module):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def forward(self, hidden: Tensor, **given: Any) -> Tensor:
        self.seen.append(given)
        return hidden


def test_what_all_layers_are_given_goes_to_a_device_once_a_pass():
    sent, layers, there = Sent(), [Layer(), Layer(), Layer()], torch.device("meta")
    for layer in layers:
        add_hook_to_module(layer, Moved(there, ["kept"], sent, first=layer is layers[0]))
    table, kept = (torch.ones(2), torch.zeros(2)), torch.ones(3)
    for _ in range(2):
        hidden = torch.ones(1)
        for layer in layers:
            hidden = layer(hidden, table=table, mask=None, kept=kept)
            assert hidden.device == there
    for turn in range(2):
        own = [layer.seen[turn] for layer in layers]
        assert all(given["table"][0] is own[0]["table"][0] and given["table"][1] is own[0]["table"][1] for given in own)
        assert {part.device for part in own[0]["table"]} == {there}
        assert all(given["mask"] is None and given["kept"] is kept for given in own)
    assert layers[0].seen[0]["table"][0] is not layers[0].seen[1]["table"][0]  # another pass may hold other numbers


def test_layers_of_two_kinds_are_given_their_own_and_nothing_is_kept_behind_them():
    """Masks of a text's square are as large as anything on a GPU."""
    sent, there = Sent(), torch.device("meta")
    layers = [add_hook_to_module(Layer(), Moved(there, (), sent, first=place == 0)) for place in range(4)]
    kinds = (torch.ones(2, 2), torch.ones(3, 3))
    for place, layer in enumerate(layers):
        layer(torch.ones(1), mask=kinds[place % 2])
    assert [layer.seen[0]["mask"].shape for layer in layers] == [(2, 2), (3, 3)] * 2
    assert layers[0].seen[0]["mask"] is layers[2].seen[0]["mask"]
    assert len(sent[there]) == 2
    del kinds
    assert len(sent[there]) == 0


def test_what_is_left_where_it_is_is_not_copied_first(monkeypatch):
    layer, copied = Layer(), []
    add_hook_to_module(layer, Moved(torch.device("meta"), ["mask"], Sent(), first=True))
    monkeypatch.setattr(Moved, "_copy", lambda self, given: copied.append(given) or given)
    layer(torch.ones(1), mask=torch.ones(2), other=torch.zeros(3))
    assert [given.shape for given in copied] == [(3,)]


def test_the_first_layer_that_moves_anything_begins_a_pass(tiny):
    """Whatever the one before it is: what another pass was given is never taken for this one's."""
    loaded = load(ModelSpec.parse(str(tiny)), dtype="float32")
    places = {f"model.{name}": "cpu" for name in ("embed_tokens", "layers.0", "layers.1", "norm", "rotary_emb")}
    dispatch_model(loaded.model, device_map=places | {"lm_head": "cpu"}, force_hooks=True)
    remove_hook_from_module(layers_of(loaded.model)[0])
    lighten(loaded.model)
    (hook,) = (getattr(layer, HOOK) for layer in layers_of(loaded.model) if hasattr(layer, HOOK))
    assert isinstance(hook, Moved)
    assert hook.first


def test_weights_that_have_no_room_on_a_gpu_are_refused(tiny, monkeypatch):
    """accelerate leaves them in main memory, where each pass fetches them and the head is not found."""
    loading: Any = sys.modules[load.__module__]
    read = loading._read_model
    monkeypatch.setattr(
        loading, "_read_model", lambda *given: cpu_offload(read(*given), execution_device=torch.device("cpu"))
    )
    with pytest.raises(ModelError, match=r"of its \d+ weights \(model\.embed_tokens\.weight, \.\.\.\) have no room on"):
        load(ModelSpec.parse(str(tiny)), dtype="float32")
    monkeypatch.undo()
    whole = load(ModelSpec.parse(str(tiny)), dtype="float32")
    model = cpu_offload(whole.model, execution_device=torch.device("cpu"))
    with pytest.raises(ModelError, match="have no room on the GPUs"), borrowed(model, whole.tokenizer):
        pass


def test_any_device_but_a_cpu_has_a_batch_in_flight():
    """Metal's too, whose weights are on no CUDA device."""
    for device, many in (("cpu", 0), ("meta", 1)):
        model = nn.Linear(2, 2, device=device)
        model.get_output_embeddings = lambda head=model: head
        assert in_flight(model) == many
