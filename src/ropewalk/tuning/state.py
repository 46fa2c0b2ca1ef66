"""Where a descent stands, in one file that is whole or not there: parameters, Adam's moments, losses so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ropewalk.errors import StoreError
from ropewalk.files import read_inside, write_whole

MOST = 2**32
"""Bytes of a file that is read."""


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    steps: Annotated[int, Field(ge=1)]
    wall_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    stopped: str
    unordered: str = "it was begun by a version of ropewalk that kept no record of it"
    made_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """After `len(losses)` steps.

    Attributes:
        steps: how many there are to be.
        tensors: parameters by name, and `exp_avg`, `exp_avg_sq` of each behind a dot.
        losses: float64 `[steps done, 3]`: beyond, excess, answer.
        wall_s: spent on them, in all sessions.
        stopped: why no more steps are taken; "" while they are.
        unordered: why the same steps may end in other bits; "" while nothing is known that makes them.
        made_by: what took the last of them: packages and device; "" where that is not known.
    """

    steps: int
    tensors: Mapping[str, Tensor]
    losses: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    wall_s: float = 0.0
    stopped: str = ""
    unordered: str = ""
    made_by: str = ""

    @property
    def done(self) -> int:
        return len(self.losses)

    @property
    def over(self) -> bool:
        """Whether no more steps are taken."""
        return self.done >= self.steps or bool(self.stopped)


def write(out: Path, name: str, state: State) -> None:
    """Write it whole."""
    facts = {name: getattr(state, name) for name in _Facts.model_fields}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    tensors["losses"] = torch.from_numpy(state.losses)
    write_whole(out, name, safetensors.torch.save(tensors, {"state": json.dumps(facts)}))


def read(out: Path, name: str, like: Mapping[str, Tensor]) -> State | None:
    """What `write` wrote; None if it did not yet.

    Args:
        out: directory of the tuning.
        name: of the file.
        like: tensors of the names and shapes that it has to hold, each of any shape.

    Raises:
        StoreError: it is damaged, or of another tuning.
    """
    try:
        raw = read_inside(out, name, MOST)
        tensors = safetensors.torch.load(raw)
        header: dict[str, Any] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        facts = _Facts.model_validate_json(header["__metadata__"]["state"])
        losses = tensors.pop("losses")
        _require(losses.dtype == torch.float64 and losses.shape == (min(len(losses), facts.steps), 3), "losses")
        _require(tensors.keys() == like.keys(), "names")
        for each, tensor in tensors.items():
            _require(tensor.is_floating_point() and tensor.shape == like[each].shape, each)
            _require(bool(tensor.isfinite().all()), each)
        return State(tensors=tensors, losses=losses.numpy(), **facts.model_dump())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise StoreError(
            f"{out / name}: is damaged ({' '.join(str(error).split())[:100]}); remove it, and this seed begins anew."
        ) from None


def _require(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"its {what} are of another tuning")
