"""Models over several devices: accelerate's hooks, which move what a module is given to where its weights are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, ModelHook, add_hook_to_module, remove_hook_from_module
from accelerate.utils.operations import recursively_apply, send_to_device
from torch import Tensor, nn
from typing_extensions import override

HOOK, INNER = "_hf_hook", "_old_forward"
"""What accelerate sets on a module whose forward it wraps."""

Sent = dict[tuple[int, torch.device], tuple[Tensor, Tensor]]
"""What was moved in this forward pass, of any shape, and its copy, by the identity of the first and the device of the
second."""


class Moved(ModelHook):
    """Moves what a decoder layer is given to its device; what all layers are given goes to each device once a pass.

    A copy from one GPU to another waits for all that was asked of either. One per layer would let the first GPU begin
    the next batch only when the last is done with this one.
    """

    def __init__(self, device: torch.device, skipped: Sequence[str], sent: Sent, *, first: bool) -> None:
        super().__init__()
        self.device, self.skipped, self.sent, self.first = device, skipped, sent, first

    @override
    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if self.first:
            self.sent.clear()
        skipped = {name: kwargs[name] for name in self.skipped if name in kwargs}
        return send_to_device(args, self.device), {**recursively_apply(self._copy, kwargs), **skipped}

    def _copy(self, given: Tensor) -> Tensor:
        """The same, of any shape, on the device of the layer."""
        if given.device == self.device:
            return given
        key = id(given), self.device  # of a tensor that is kept, so that no other can have its identity
        if key not in self.sent:
            self.sent[key] = given, given.to(self.device)
        return self.sent[key][1]


def lighten(model: Any) -> None:
    """Keep one hook per decoder layer, and none of the modules in it, where all of the layer is on one device.

    The layer's own hook moves what all of them are given. Some dozen more per layer would move nothing, take time, and
    stand in the way of a compiler.
    """
    sent: Sent = {}
    for layer in getattr(model.get_decoder(), "layers", ()):
        devices = {parameter.device for parameter in layer.parameters()}
        hook = getattr(layer, HOOK, None)
        if hook is None or len(devices) != 1 or next(iter(devices)).type == "meta":
            continue
        for child in layer.children():
            remove_hook_from_module(child, recurse=True)
        if type(hook) is AlignDevicesHook and not hook.offload:
            first = layer is model.get_decoder().layers[0]
            add_hook_to_module(layer, Moved(next(iter(devices)), hook.skip_keys or (), sent, first=first))


def forward_name(module: nn.Module) -> str:
    """The attribute that holds a module's forward: below the hook that moves its inputs, if it has one."""
    return INNER if hasattr(module, HOOK) else "forward"


def gpus_of(model: Any) -> set[torch.device]:
    """The GPUs that hold weights; several hold a large model."""
    return {parameter.device for parameter in model.parameters() if parameter.is_cuda}
