"""Models over several devices: accelerate's hooks, which move what a module is given to where its weights are."""

from __future__ import annotations

from typing import Any

from accelerate.hooks import remove_hook_from_module
from torch import nn

HOOK, INNER = "_hf_hook", "_old_forward"
"""What accelerate sets on a module whose forward it wraps."""


def lighten(model: Any) -> None:
    """Keep the hook of a decoder layer and drop those of the modules in it, where all of the layer is on one device.

    The layer's own hook moves what all of them are given. Some dozen more per layer would move nothing, take time, and
    stand in the way of a compiler.
    """
    for layer in getattr(model.get_decoder(), "layers", ()):
        devices = {parameter.device for parameter in layer.parameters()}
        if not hasattr(layer, HOOK) or len(devices) != 1 or next(iter(devices)).type == "meta":
            continue
        for child in layer.children():
            remove_hook_from_module(child, recurse=True)


def forward_name(module: nn.Module) -> str:
    """The attribute that holds a module's forward: below the hook that moves its inputs, if it has one."""
    return INNER if hasattr(module, HOOK) else "forward"
