"""Gradient descent of one seed: Adam with a warm-up and a linear decay; every step is kept before the next begins."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ropewalk.rope import Rotation
from ropewalk.tuning import state as states
from ropewalk.tuning.draws import Material, draw, timed
from ropewalk.tuning.forward import Tunable
from ropewalk.tuning.loss import Loss, Weights, descend
from ropewalk.tuning.memory import fitted
from ropewalk.tuning.order import Order, made_by, repeatable
from ropewalk.tuning.parameters import Parameters, rates
from ropewalk.tuning.state import State

WARM_UP = 5
CLIP = 1.0
SPARE = 0.97
"""Of a budget is given to steps: some take longer than those that were timed."""

Told = Callable[[State, Loss], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """What one seed is to do.

    Attributes:
        none: the unscaled model's rotation, which the loss inside the window is held against.
        what: is tuned, one of `parameters.WHATS`.
        out, name: directory and file of the state.
    """

    model: Tunable
    material: Material
    weights: Weights
    none: Rotation
    what: str
    seed: int
    out: Path
    name: str

    def gradient(self, parameters: Parameters, step: int, *, typical: bool = False) -> Loss:
        """Of one step, into the parameters; `typical` as in `draws.draw`."""
        drawn = draw(self.material, self.seed, step, typical=typical)
        return descend(self.model, parameters, drawn, self.material.window, self.none, self.weights)


def run(
    task: Task,
    parameters: Parameters,
    *,
    steps: int | None,
    budget_s: float | None,
    told: Told,
    pause_s: float = math.inf,
) -> State:
    """Take the steps that are left; `parameters` are where they begin if none was taken, and end up at the last.

    After `pause_s` seconds no more are taken for now: called again, they go on. A loss that is no number ends the
    descent: what was good before it is kept, and `stopped` says so.
    """
    begun, fresh, maker = time.monotonic(), _fresh(parameters), made_by(parameters.stretch.device)
    state = _gone_on(states.read(task.out, task.name, fresh), maker)
    with repeatable("" if state is None else state.unordered) as order:
        if state is None:
            count = steps if steps is not None else _affordable(task, parameters, budget_s or 0.0, order)
            state = State(steps=count, tensors=fresh, made_by=maker)
            states.write(task.out, task.name, state)
        _load(parameters, state)
        while not state.over:
            state, loss = _step(task, parameters, state, order)
            states.write(task.out, task.name, state)
            told(state, loss)
            if time.monotonic() - begun > pause_s:
                break
        return state


def _gone_on(state: State | None, maker: str) -> State | None:
    """A state whose next steps somebody takes: the same to the bit only if who took the others did."""
    if state is None or state.over or state.made_by == maker:
        return state
    why = f"some of its steps were taken by {state.made_by}, and others by {maker}"
    return replace(state, made_by=maker, unordered=state.unordered or why)


def _affordable(task: Task, parameters: Parameters, budget_s: float, order: Order) -> int:
    """How many steps the budget holds, from the time that a few take, which are not kept; the first of several of a
    kind is not counted, as kernels are prepared in it. The clock decides once, and never again."""
    spent, mean, many = 0.0, 0.0, 0
    for weight, steps in timed(task.material):
        times = []
        for step in steps:
            begun = time.monotonic()
            _gradient(task, parameters, step, order, typical=True)
            parameters.clear()
            times.append(time.monotonic() - begun)
        spent, mean, many = spent + sum(times), mean + weight * float(np.mean(times[1:] or times)), many + weight
    return affordable(budget_s - spent, mean / many)


def _gradient(task: Task, parameters: Parameters, step: int, order: Order, *, typical: bool = False) -> Loss:
    """Of one step, into parameters that have none yet."""
    clear, made = parameters.clear, partial(task.gradient, parameters, step, typical=typical)
    return fitted(task.material.length, task.model.room, lambda: order.made(made, clear), clear)


def affordable(budget_s: float, step_s: float) -> int:
    """Steps of `step_s` seconds that a budget holds; at least one."""
    return max(1, math.floor(SPARE * budget_s / step_s))


def _step(task: Task, parameters: Parameters, state: State, order: Order) -> tuple[State, Loss]:
    begun, step = time.monotonic(), state.done
    loss = _gradient(task, parameters, step, order)
    state = replace(state, unordered=state.unordered or order.broken)
    total = loss.total(task.weights)
    slopes = [tensor.grad for tensor in parameters.named().values()]
    norm = torch.nn.utils.get_total_norm([each for each in slopes if each is not None])
    if not (math.isfinite(total) and math.isfinite(float(norm))):
        stopped = (
            f"step {step + 1} of {state.steps} had a loss of {total:g} and a gradient of {float(norm):g}, so what step "
            f"{step} left is kept; use dtype float32 or bfloat16, or another seed"
        )
        return replace(state, stopped=stopped), loss
    tensors = _moved(task, parameters, state, min(1.0, CLIP / (float(norm) + 1e-6)))
    losses = np.append(state.losses, [[loss.beyond, loss.excess, loss.answer]], axis=0)
    return replace(state, tensors=tensors, losses=losses, wall_s=state.wall_s + time.monotonic() - begun), loss


BETAS, EPSILON = (0.9, 0.999), 1e-8


@torch.no_grad()
def _moved(task: Task, parameters: Parameters, state: State, shrink: float) -> dict[str, Tensor]:
    """One step of Adam (arXiv:1412.6980) in place; what the next one needs, each in its parameter's own shape."""
    step = state.done
    share = min(1.0, (step + 1) / WARM_UP) * (1.0 - step / state.steps)
    kept: dict[str, Tensor] = {}
    for name, tensor in parameters.named().items():
        slope = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad * shrink
        tensor.grad = None
        first = state.tensors[f"{name}.exp_avg"].to(tensor.device).lerp(slope, 1 - BETAS[0])
        second = state.tensors[f"{name}.exp_avg_sq"].to(tensor.device).lerp(slope * slope, 1 - BETAS[1])
        toward = first / (1 - BETAS[0] ** (step + 1))
        width = (second / (1 - BETAS[1] ** (step + 1))).sqrt() + EPSILON
        tensor -= rates(task.what, state.steps, pieces=task.material.pieces)[name] * share * toward / width
        kept |= {f"{name}.exp_avg": first, f"{name}.exp_avg_sq": second}
    parameters.clamp()
    return kept | {name: tensor.detach().clone() for name, tensor in parameters.named().items()}


def _fresh(parameters: Parameters) -> dict[str, Tensor]:
    """What the first step needs, each in its parameter's own shape."""
    named = parameters.named()
    moments = {f"{name}.{kind}": torch.zeros_like(t) for name, t in named.items() for kind in ("exp_avg", "exp_avg_sq")}
    return moments | {name: tensor.detach().clone() for name, tensor in named.items()}


@torch.no_grad()
def _load(parameters: Parameters, state: State) -> None:
    for name, tensor in parameters.named().items():
        tensor.copy_(state.tensors[name])
