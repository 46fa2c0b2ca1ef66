"""A method of one module, replaced for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def replaced(module: nn.Module, forward: Callable[..., Any], name: str = "forward") -> Iterator[None]:
    """Call `forward` in the place of a module's own inside the block; what the instance had (accelerate's hooks live
    there) is there again afterwards."""
    before = module.__dict__.get(name)
    setattr(module, name, forward)
    try:
        yield
    finally:
        if before is None:
            delattr(module, name)
        else:
            setattr(module, name, before)
