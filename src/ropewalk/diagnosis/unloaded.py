"""The rotary modules that transformers makes of a configuration, without any weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ropewalk.diagnosis.turning import is_rotary
from ropewalk.models.auto import auto_classes, text_model


def unloaded(config: Any) -> nn.Module:
    """A module that holds, under their names, the rotary modules of the model of `config`, on the CPU."""
    return made(config)[0]


def made(config: Any) -> tuple[nn.Module, tuple[float, ...]]:
    """The same, and the softmax scales of its attention modules.

    The model is made on the meta device, which takes no memory; its rotary modules are made again from the same
    configuration, and nothing else of it is.
    """
    with torch.device("meta"):
        model: Any = auto_classes("configuration", config)[0].from_config(config)
    rotary, scales = nn.Module(), set[float]()
    for name, module in text_model(model).named_modules():
        if is_rotary(module) and hasattr(module, "config"):
            rotary.add_module(name.replace(".", "/"), type(module)(config=module.config))
        if isinstance(scale := getattr(module, "scaling", None), float) and type(module).__name__.endswith("Attention"):
            scales.add(scale)
    return rotary, tuple(sorted(scales))
