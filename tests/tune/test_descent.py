"""The gradient is that of the losses that are measured; a descent repeats, resumes and stops as it says."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from descents import WINDOW, begin, rotation_of

import checkpoints
from ropewalk.errors import ModelError
from ropewalk.models import patched
from ropewalk.models.geometry import geometry_of
from ropewalk.models.spread import lighten
from ropewalk.scheme import Scheme
from ropewalk.scoring import split
from ropewalk.tuning import descent, draws, loss, parameters, state
from ropewalk.tuning.attention import NAME
from ropewalk.tuning.forward import Tunable, mean_nll, opened
from ropewalk.tuning.pairs import turning

STEPS = 6


def test_few_steps_are_twice_as_large_at_most() -> None:
    usual = parameters.rates("rotation+head+pair", 80)
    assert parameters.rates("rotation+head+pair", 1000) == usual == dict(parameters.RATES)
    assert parameters.rates("rotation+head+pair", 64) == {name: 1.25 * rate for name, rate in usual.items()}
    assert parameters.rates("rotation+head+pair", 2) == {name: 2.0 * rate for name, rate in usual.items()}


def test_a_gain_that_a_whole_head_shares_moves_twice_as_fast() -> None:
    usual = parameters.rates("rotation+pair", 80)
    assert parameters.rates("rotation+head", 80) == usual | {"gains": 2 * usual["gains"]}


@pytest.mark.parametrize("step", [0, 1])
def test_a_model_over_several_devices_has_the_gradient_of_the_whole_one(material: draws.Material, step: int) -> None:
    """Its hooks move what layers are given, and stay where they are; for whole texts and for pieces."""
    drawn = draws.draw(dataclasses.replace(material, window=WINDOW // 2, pieces=True), 3, step)
    assert (drawn.text.places is None) == (step == 0)
    slopes = []
    for spread in (False, True):
        model = checkpoints.llama().requires_grad_(False)
        if spread:
            names = ("embed_tokens", *(f"layers.{i}" for i in range(len(model.model.layers))), "norm", "rotary_emb")
            places = {f"model.{name}": "cpu" for name in names} | {"lm_head": "cpu"}
            lighten(dispatch_model(model, device_map=places, force_hooks=True))
        before = {name: module.forward for name, module in model.named_modules()}
        with opened(model, split(model), turning(model)) as tunable:
            found = begin(model, tunable)
            none = rotation_of(model, "none")
            loss.descend(tunable, found, drawn, WINDOW // 2, none, loss.Weights())
            slopes.append({name: tensor.grad for name, tensor in found.named().items()})
        assert {name: module.forward for name, module in model.named_modules()} == before
    assert slopes[0].keys() == slopes[1].keys()
    assert all(torch.equal(slopes[0][name], slopes[1][name]) for name in slopes[0])


def moved(found: parameters.Parameters) -> parameters.Parameters:
    """The same, elsewhere: gains are not 0."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        found.gains.add_(0.2 * torch.randn(found.gains.shape, generator=generator))
    return found


def test_its_loss_is_the_one_that_is_measured(model: Any, tunable: Tunable) -> None:
    """Under gains and a rotation, against stock logits of the patched model: float32 through two layers."""
    found, ids = moved(begin(model, tunable)), torch.arange(200) * 7 % 384
    with tunable.under(found):
        hidden = tunable.hidden(ids)
        own = mean_nll(tunable.parts.head, hidden[:-1], ids[1:])
    scheme = Scheme(rotation=found.rotation(geometry_of(model.config)), gains=found.query_gains(2, 8))
    model.set_attn_implementation("sdpa")
    with torch.no_grad(), patched(model, scheme):
        stock = model(input_ids=ids[None], use_cache=False, output_hidden_states=True)
    model.set_attn_implementation(NAME)
    last = stock.hidden_states[-1][0]
    assert float((hidden.detach() - last).abs().max() / last.abs().max()) < 1e-5
    expected = torch.nn.functional.cross_entropy(stock.logits[0, :-1], ids[1:])
    assert float(own.detach()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("name", "size"), [("stretch", 1e-3), ("ln_attention_factor", 2e-3), ("gains", 2e-3)])
def test_its_gradient_is_the_slope_of_its_loss(
    model: Any, tunable: Tunable, task: descent.Task, name: str, size: float
) -> None:
    """Against a difference of losses along one direction, to 2 %: what float32 leaves of such steps."""
    found = moved(begin(model, tunable))
    task.gradient(found, 0)
    tensor = found.named()[name]
    assert tensor.grad is not None
    direction = torch.sign(tensor.grad)
    slope = float((tensor.grad * direction).sum())
    totals = []
    for step in (1, -1):
        with torch.no_grad():
            tensor += step * size * direction
        totals.append(task.gradient(found, 0).total(task.weights))
        with torch.no_grad():
            tensor -= step * size * direction
    assert (totals[0] - totals[1]) / (2 * size) == pytest.approx(slope, rel=0.02)


def test_no_step_turns_the_windows_end_by_more_than_slow_pairs_may(
    model: Any, tunable: Tunable, task: descent.Task
) -> None:
    """The first step of Adam is as large as the rate, whatever the gradient, of every pair that may move freely."""
    found, geometry = begin(model, tunable), geometry_of(model.config)
    before = geometry.unscaled_inv_freq / found.rotation(geometry).inv_freq
    descent.run(task, found, steps=1, budget_s=None, told=lambda s, x: None)
    moved_P = np.abs(np.log(geometry.unscaled_inv_freq / found.rotation(geometry).inv_freq / before))
    turns_P = geometry.unscaled_inv_freq * geometry.window().length / (2 * math.pi)
    rate = parameters.rates(task.what, 1)["stretch"] / descent.WARM_UP
    free = before > 1 + rate  # the others stop at 1
    assert {bool(each) for each in turns_P[free] > parameters.TURNS} == {True, False}
    assert moved_P[free] == pytest.approx(rate * np.minimum(1, parameters.TURNS / turns_P[free]), rel=1e-3)
    assert (moved_P * turns_P <= 1.001 * rate * np.minimum(turns_P, parameters.TURNS)).all()


def test_a_resumed_descent_ends_with_the_same_bits(
    model: Any, tunable: Tunable, task: descent.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = begin(model, tunable)
    told: list[float] = []
    end = descent.run(task, whole, steps=STEPS, budget_s=None, told=lambda s, x: told.append(x.total(task.weights)))
    assert end.done == STEPS == len(told)
    assert np.mean(told[-3:]) < np.mean(told[:3])  # random weights, but its loss falls
    assert (whole.stretch >= 0).all()

    real, kept = state.write, []

    def dying(out: Path, name: str, at: state.State) -> None:
        if at.done == 3:
            raise KeyboardInterrupt  # before the step is kept
        real(out, name, at)
        kept.append(at.done)

    again = dataclasses.replace(task, name="other.safetensors")
    first = begin(model, tunable)
    with monkeypatch.context() as patch:
        patch.setattr(state, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            descent.run(again, first, steps=STEPS, budget_s=None, told=lambda s, x: None)
    assert kept == [0, 1, 2]
    resumed = begin(model, tunable)
    after = descent.run(again, resumed, steps=STEPS, budget_s=None, told=lambda s, x: None)
    assert np.array_equal(after.losses, end.losses)
    for name, tensor in whole.named().items():
        assert torch.equal(tensor, resumed.named()[name])


def test_a_budget_decides_the_steps_once(model: Any, tunable: Tunable, task: descent.Task) -> None:
    """And leaves the start as it was."""
    found = begin(model, tunable)
    end = descent.run(task, found, steps=None, budget_s=1e-9, told=lambda s, x: None)
    assert end.steps == end.done == 1  # no time is left, and one step is taken
    again = descent.run(task, begin(model, tunable), steps=None, budget_s=1e9, told=lambda s, x: None)
    assert (again.steps, again.done) == (1, 1)
    other = dataclasses.replace(task, name="by-steps.safetensors")
    descent.run(other, by_steps := begin(model, tunable), steps=1, budget_s=None, told=lambda s, x: None)
    assert torch.equal(found.gains, by_steps.gains)


def test_a_loss_that_is_no_number_keeps_the_last_good_step(
    model: Any, tunable: Tunable, task: descent.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = descent.descend

    def broken(*args: Any) -> loss.Loss:
        found = real(*args)
        return dataclasses.replace(found, beyond=math.nan) if broken_at() else found

    kept = begin(model, tunable)
    descent.run(dataclasses.replace(task, name="two"), kept, steps=4, budget_s=None, told=lambda s, x: None)
    count = 0

    def broken_at() -> bool:
        nonlocal count
        count += 1
        return count == 3

    monkeypatch.setattr(descent, "descend", broken)
    found = begin(model, tunable)
    end = descent.run(task, found, steps=4, budget_s=None, told=lambda s, x: None)
    assert end.done == 2
    assert end.stopped.startswith("step 3 of 4 had a loss of nan")
    assert torch.equal(found.gains, end.tensors["gains"])
    monkeypatch.undo()
    assert descent.run(task, begin(model, tunable), steps=4, budget_s=None, told=lambda s, x: None).done == 2


@pytest.mark.parametrize(
    ("what", "shape"), [("rotation", (0,)), ("rotation+head", (2, 2, 1)), ("rotation+pair", (2, 1, 8))]
)
def test_less_is_tuned_where_less_is_asked(
    model: Any, tunable: Tunable, task: descent.Task, what: str, shape: tuple[int, ...]
) -> None:
    found = begin(model, tunable, what)
    assert found.gains.shape == shape
    descent.run(dataclasses.replace(task, what=what), found, steps=1, budget_s=None, told=lambda s, x: None)
    gains = found.query_gains(2, 8)
    assert (gains is None) == (what == "rotation")
    assert gains is None or gains.log.any()


def test_the_model_is_as_it_was_afterwards() -> None:
    model = checkpoints.llama()
    before = {id(part): dict(part.__dict__) for part in model.modules()}
    kind = model.config._attn_implementation
    with opened(model, split(model), turning(model)) as tunable, tunable.under(begin(model, tunable)):
        assert model.model.layers[0].training
        assert not model.model.layers[0].self_attn.training
    assert model.config._attn_implementation == kind
    for part in model.modules():
        assert part.training is False
        assert not getattr(part, "gradient_checkpointing", False)
        assert ("forward" in part.__dict__) == ("forward" in before[id(part)])


def test_what_sums_in_any_order_is_said_kept_and_goes_on(
    task: descent.Task, model: Any, tunable: Tunable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A kernel that torch refuses where sums are to be repeatable; its gradients are kept out of the second try."""
    own, strict = loss.descend, list[bool]()

    def unordered(*args: Any) -> loss.Loss:
        strict.append(not torch.is_deterministic_algorithms_warn_only_enabled())
        found = own(*args)
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))  # what else has no such kernel on a CPU
        return found

    def ended(name: str, steps: int, pause_s: float = math.inf) -> tuple[parameters.Parameters, state.State]:
        at = begin(model, tunable)
        own_task = dataclasses.replace(task, name=name)
        return at, descent.run(own_task, at, steps=steps, budget_s=None, told=lambda s, x: None, pause_s=pause_s)

    expected, plain = ended("ordered", 2)
    assert plain.unordered == ""
    monkeypatch.setattr(descent, "descend", unordered)
    assert ended("other", 2, pause_s=0.0)[1].unordered == "put_ has no kernel that sums in one order"
    found, end = ended("other", 2)
    assert strict == [True, False, False]  # nor does it try again what it has tried
    assert caplog.text.count("put_ has no kernel that sums in one order") == 1
    assert all(torch.equal(tensor, found.named()[name]) for name, tensor in expected.named().items())
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(descent, "descend", own)
    assert ended("other", 2)[1].unordered == end.unordered == "put_ has no kernel that sums in one order"


def test_a_step_that_does_not_fit_is_a_sentence_and_the_steps_before_it_are_kept(
    task: descent.Task, model: Any, tunable: Tunable, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, taken = loss.descend, list[int]()
    monkeypatch.setattr(tunable.room, "tokens", 0)

    def full(*args: Any) -> loss.Loss:
        taken.append(0)
        if len(taken) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return own(*args)

    monkeypatch.setattr(descent, "descend", full)
    asked: dict[str, Any] = {"steps": 2, "budget_s": None, "told": lambda s, x: None}
    with pytest.raises(ModelError, match=r"^--length 256: a step .* the steps before it are kept, so free some"):
        descent.run(task, begin(model, tunable), **asked)
    assert descent.run(task, begin(model, tunable), **asked).done == 2
    assert len(taken) == 3


def test_steps_of_another_torch_or_device_are_said(
    task: descent.Task, model: Any, tunable: Tunable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may end in other bits; a descent that is over is what it was."""
    asked: dict[str, Any] = {"steps": 2, "budget_s": None, "told": lambda s, x: None}
    own = descent.run(task, begin(model, tunable), pause_s=0.0, **asked)
    assert (own.done, own.unordered) == (1, "")
    assert own.made_by.startswith("ropewalk ")
    assert f"torch {torch.__version__}" in own.made_by
    monkeypatch.setattr(descent, "made_by", lambda device: "torch 9 and a GPU")
    said = f"some of its steps were taken by {own.made_by}, and others by torch 9 and a GPU"
    assert descent.run(task, begin(model, tunable), **asked).unordered == said
    monkeypatch.undo()
    ended = descent.run(task, begin(model, tunable), **asked)
    assert (ended.done, ended.unordered, ended.made_by) == (2, said, "torch 9 and a GPU")
