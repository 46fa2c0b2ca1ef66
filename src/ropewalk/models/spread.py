"""Models over several devices: accelerate's hooks, which move what a module is given to where its weights are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, ModelHook, add_hook_to_module, remove_hook_from_module
from accelerate.utils.operations import recursively_apply, send_to_device
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from typing_extensions import override

from ropewalk.errors import ModelError

HOOK, INNER = "_hf_hook", "_old_forward"
"""What accelerate sets on a module whose forward it wraps."""

Sent = dict[torch.device, WeakTensorKeyDictionary]
"""Copies on each device of what was moved there in this forward pass, of any shape, as long as that is there."""


class Moved(ModelHook):
    """Moves what a decoder layer is given to its device; what all layers are given goes to each device once a pass.

    A copy from one GPU to another waits for all that was asked of either. One per layer would let the first GPU begin
    the next batch only when the last is done with this one.
    """

    def __init__(self, device: torch.device, skipped: Collection[str], sent: Sent, *, first: bool) -> None:
        super().__init__()
        self.device, self.skipped, self.sent, self.first = device, skipped, sent, first

    @override
    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if self.first:
            self.sent.clear()
        moved = {
            name: given if name in self.skipped else recursively_apply(self._copy, given)
            for name, given in kwargs.items()
        }
        return send_to_device(args, self.device), moved

    def _copy(self, given: Tensor) -> Tensor:
        """The same, of any shape, on the device of the layer."""
        if given.device == self.device:
            return given
        copies = self.sent.setdefault(self.device, WeakTensorKeyDictionary())
        if given not in copies:
            copies[given] = given.to(self.device)
        copy: Tensor = copies[given]
        return copy


def require_placed(model: Any, name: str) -> None:
    """Refuse a model of which accelerate left weights off its GPUs, to be copied there in every pass.

    Raises:
        ModelError: naming the first of them.
    """
    every = dict(model.named_parameters())
    left = [key for key, weight in every.items() if weight.device.type == "meta"]
    if left:
        raise ModelError(
            f"model {name!r}: {len(left)} of its {len(every)} weights ({left[0]}, ...) have no room on the GPUs that "
            "it may use; give it more of them (--gpus-per-model), a narrower dtype, or quantization."
        )


def lighten(model: Any) -> None:
    """Keep one hook per decoder layer, and none of the modules in it, where all of the layer is on one device.

    The layer's own hook moves what all of them are given. Some dozen more per layer would move nothing, take time, and
    stand in the way of a compiler.
    """
    decoder = model.get_decoder()
    layers = list(getattr(decoder, "layers", ()))
    sent, first = Sent(), True
    for layer in layers:
        devices = {parameter.device for parameter in layer.parameters()}
        hook = getattr(layer, HOOK, None)
        if hook is None or len(devices) != 1:
            continue
        for child in layer.children():
            remove_hook_from_module(child, recurse=True)
        if type(hook) is AlignDevicesHook:
            add_hook_to_module(layer, Moved(devices.pop(), hook.skip_keys or (), sent, first=first))
            first = False
    if layers:
        _bring_forward(decoder, layers)


def _bring_forward(decoder: nn.Module, layers: Sequence[nn.Module]) -> None:
    """Compute the rotation that all layers are given where the first of them is.

    It has no weights; accelerate counts it after the last layer, so it is on the last GPU. From there it would come
    back to the first only when the last is done with the batch before, so that one of them always waits.
    """
    device = next(layers[0].parameters()).device
    within = {id(module) for layer in layers for module in layer.modules()}
    for module in decoder.modules():
        turns = any("inv_freq" in name for name in module._buffers)
        if turns and id(module) not in within and hasattr(module, HOOK):
            remove_hook_from_module(module, recurse=True)
            module.to(device)


def forward_name(module: nn.Module) -> str:
    """The attribute that holds a module's forward: below the hook that moves its inputs, if it has one."""
    return INNER if hasattr(module, HOOK) else "forward"


def gpus_of(model: Any) -> set[torch.device]:
    """The GPUs that hold weights; several hold a large model."""
    return {parameter.device for parameter in model.parameters() if parameter.is_cuda}
