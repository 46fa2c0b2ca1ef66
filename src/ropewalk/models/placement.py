"""Which device and which dtype a model runs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from ropewalk.errors import ModelError, one_of

DTYPES = ("auto", "float32", "bfloat16", "float16")
SPREADS = ("auto", "balanced", "balanced_low_0", "sequential")
"""What `device_map` may say, in transformers, beside the name of one device."""


def torch_device(device: str | None, device_map: str | None) -> torch.device:
    """The asked device, or CUDA if there is any, else the CPU.

    Raises:
        ModelError: no such device here, or device and device_map both given.
    """
    if device is not None and device_map is not None:
        raise ModelError(f"device={device!r} and device_map={device_map!r} contradict each other; give one of them.")
    if device is not None:
        return _there(device, "device")
    if device_map is not None and device_map not in SPREADS:
        return _there(device_map, "device_map")
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def _there(name: str, key: str) -> torch.device:
    """The device of that name. Raises ModelError unless this machine has it."""
    try:
        place = torch.device(name)
    except RuntimeError as error:
        spreads = f", or {', '.join(SPREADS)}" if key == "device_map" else ""
        raise ModelError(f"{key}={name!r} is no device; give cpu, cuda, cuda:N or mps{spreads}.") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"{key}={name!r} does not exist; this machine has {torch.cuda.device_count()} CUDA devices.")
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"{key}={name!r} does not exist; this machine has no Metal GPU, so give cpu.")
    return torch.device("cuda", place.index or 0) if place.type == "cuda" else place


def torch_dtype(asked: str, device: torch.device, *, is_gguf: bool) -> torch.dtype | str:
    """The dtype to load in; the string "auto" leaves it to the weight files.

    `auto` is the checkpoint's own on accelerators (bfloat16 for GGUF, whose blocks have none). A CPU runs bfloat16
    only if it has instructions for it: emulated, it is some 80 times slower than float32.

    Raises:
        ModelError: not one of DTYPES.
    """
    if asked not in DTYPES:
        raise ModelError(f"dtype={asked!r} {one_of(asked, DTYPES)}")
    if asked != "auto":
        return getattr(torch, asked)
    if device.type == "cpu":
        return torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    if is_gguf:
        return torch.bfloat16
    return "auto"


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (avx512_bf16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def upload(array: NDArray[Any], device: torch.device | None) -> torch.Tensor:
    """A copy on a device, of the same shape; a GPU's copies from ordinary memory would wait until all that was started
    before is done."""
    tensor = torch.from_numpy(array)
    if device is not None and device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True, slots=True, eq=False)
class Landing:
    """A tensor of any shape on its way from a device to main memory; `landed` has happened when it is there."""

    tensor: torch.Tensor
    landed: torch.cuda.Event | None

    def array(self) -> NDArray[Any]:
        """The same as an array, once it is there; nothing that was begun later is waited for."""
        if self.landed is None:
            return self.tensor.cpu().numpy()
        self.landed.synchronize()
        return self.tensor.numpy().copy()  # pinned memory is for the next ones


def download(tensor: torch.Tensor) -> Landing:
    """A tensor of any shape, sent off at once: a copy from a GPU that is asked for when it is read would wait for all
    that was begun there since, the next batches with it."""
    if not tensor.is_cuda:
        return Landing(tensor, None)
    landed = torch.cuda.Event()
    sent = tensor.to("cpu", non_blocking=True)
    landed.record(torch.cuda.current_stream(tensor.device))
    return Landing(sent, landed)
