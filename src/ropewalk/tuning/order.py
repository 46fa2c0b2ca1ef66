"""Kernels that sum in one order, as far as there are such: gradients on a GPU then come out the same again. What has
none is said, and kept with what it made."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import transformers

from ropewalk import __version__

UNORDERED = " does not have a deterministic implementation"
"""What torch says behind the name of such a kernel."""

_LOG = logging.getLogger(__name__)
_Made = TypeVar("_Made")


@dataclass(slots=True, eq=False)
class Order:
    """Whether all sums inside a block were made in one order.

    Attributes:
        broken: why they may come out otherwise in their last bits; "" while none does.
    """

    broken: str = ""

    def made(self, make: Callable[[], _Made], clear: Callable[[], None]) -> _Made:
        """What `make` gives. Where torch refuses a kernel it is said once, `clear` drops what is half made, and it is
        made again, from now on by any kernel."""
        try:
            return make()
        except RuntimeError as error:
            if UNORDERED not in str(error):
                raise
            self.broken = f"{str(error).split(UNORDERED)[0].strip()} has no kernel that sums in one order"
        _LOG.warning("%s, so what is tuned here may not come out the same to the bit again.", self.broken)
        torch.use_deterministic_algorithms(True, warn_only=True)
        clear()
        return make()


def made_by(device: torch.device) -> str:
    """What the last bits of a step depend on beside what is asked, in words."""
    threads = torch.get_num_threads()
    cpu = f"{threads} thread{'s' * (threads > 1)} of a CPU with {torch.backends.cpu.get_cpu_capability()}"
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return f"ropewalk {__version__}, torch {torch.__version__}, transformers {transformers.__version__} and {place}"


def say_before_products() -> None:
    """Ask of CUDA's products that they sum in one order; it reads this when it makes the first."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def repeatable(broken: str = "") -> Iterator[Order]:
    """Kernels that sum in one order: what has none raises, outside of `Order.made`. Any kernel will do where it is
    known already why sums may come out otherwise.

    To be warned in place of that would not do: flash attention then takes the other kernel.
    """
    say_before_products()
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=bool(broken))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic.*")  # once it is said, of every step
            yield Order(broken)
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
