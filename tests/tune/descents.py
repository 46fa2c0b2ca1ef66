"""A small model and what it is tuned on, for the tests of single descents."""

from __future__ import annotations

from typing import Any

import torch

from ropewalk.methods import make_params, resolve
from ropewalk.models.geometry import geometry_of
from ropewalk.tuning import parameters
from ropewalk.tuning.forward import Tunable

WINDOW, LENGTH = 128, 256


def rotation_of(model: Any, method: str, **params: Any) -> Any:
    return resolve(geometry_of(model.config), method, make_params(method, params), LENGTH).rotation


def begin(model: Any, tunable: Tunable, what: str = "rotation+head+pair") -> parameters.Parameters:
    shape = parameters.shape_of(what, tunable.turns)
    return parameters.start(geometry_of(model.config), rotation_of(model, "yarn", factor=2), shape, torch.device("cpu"))
