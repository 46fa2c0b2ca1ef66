"""Where a model makes its queries, and how weights there take a factor per head and dimension; pure but for reading.

Shapes: H query heads, D dimensions of a head, R rows of a weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ropewalk.errors import ModelError

PROJECTIONS = ("q_proj", "qkv_proj", "query_key_value")
NORMS = ("q_norm", "q_layernorm")
CLIPS = ("clip_qkv", "qk_norm")
"""Attributes of an attention after whose work a factor in the weights is not one of the query any more, if set."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """A weight whose rows make a layer's query.

    Attributes:
        name: of the parameter, as in `state_dict`.
        rows: int64 `[H, D]`, the row of each dimension of each head; `[1, D]` where all heads share one.
        stored: what has been taken off the weight that is stored: 1 for Gemma's norms, which store weight - 1.
    """

    name: str
    rows: NDArray[np.int64]
    stored: float = 0.0

    @property
    def by_head(self) -> bool:
        """Whether heads can have factors of their own."""
        return self.rows.shape[0] > 1


def query_places(model: Any) -> dict[int, tuple[Place, ...]]:
    """Places by layer, of every layer whose query they make.

    Raises:
        ModelError: a layer makes its query in a way that cannot take factors; they could only be measured, not served.
    """
    found: dict[int, tuple[Place, ...]] = {}
    for name, module in model.named_modules():
        projection = next((each for each in PROJECTIONS if isinstance(getattr(module, each, None), nn.Module)), None)
        if projection is not None and getattr(module, "layer_idx", None) is not None:
            found[module.layer_idx] = tuple(_places(name, module, projection))
    if not found:
        raise ModelError(
            f"{type(model).__name__} makes its queries by none of {', '.join(PROJECTIONS)}, so gains cannot be folded "
            "into its weights; tune the rotation alone (what: rotation)."
        )
    return found


def by_head(places: Mapping[int, tuple[Place, ...]]) -> bool:
    """Whether the heads of every layer can have factors of their own."""
    return all(place.by_head for each in places.values() for place in each)


def _places(prefix: str, module: Any, projection: str) -> Iterator[Place]:
    owner = type(module).__name__
    clip = next((key for key in CLIPS if _set(module, key)), None)
    if clip is not None:
        raise ModelError(
            f"{owner} does {clip} to its queries, which undoes a factor in the weights; tune the rotation alone "
            "(what: rotation)."
        )
    norm = next((each for each in NORMS if isinstance(getattr(module, each, None), nn.Module)), None)
    if norm is not None:
        yield from _of_norm(f"{prefix}.{norm}", getattr(module, norm), module)
        return
    linear = getattr(module, projection)
    if type(linear) is not nn.Linear or not linear.weight.dtype.is_floating_point:
        raise ModelError(
            f"{owner}: {projection} is a {type(linear).__name__}, whose rows take no factor; load the model "
            "unquantised, or tune the rotation alone (what: rotation)."
        )
    rows = _rows(module, projection, linear.weight.shape[0])
    for part in ("weight", "bias"):
        if getattr(linear, part, None) is not None:
            yield Place(name=f"{prefix}.{projection}.{part}", rows=rows)


def _set(module: Any, key: str) -> bool:
    value = getattr(module, key, None)
    own = getattr(getattr(module, "config", None), key, None) if value is None and key.startswith("clip") else value
    return own is not None and own is not False


def _rows(module: Any, projection: str, count: int) -> NDArray[np.int64]:
    """Rows of the query, `[H, D]`.

    Raises:
        ModelError: the weight has another number of rows than heads and head_dim make.
    """
    size, config = _head_dim(module), module.config
    heads, groups = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    every = {"q_proj": heads, "qkv_proj": heads + 2 * (groups or heads), "query_key_value": 3 * heads}[projection]
    if count != every * size:
        raise ModelError(
            f"{type(module).__name__}: {projection} has {count} rows, where {every} heads of {size} dimensions were "
            "expected; its queries cannot take gains, so tune the rotation alone (what: rotation)."
        )
    step = 3 * size if projection == "query_key_value" else size
    return np.arange(heads)[:, None] * step + np.arange(size)[None, :]


def _head_dim(module: Any) -> int:
    for name in ("head_dim", "head_size"):
        if isinstance(size := getattr(module, name, None), int):
            return size
    return module.config.hidden_size // module.config.num_attention_heads


def _of_norm(name: str, norm: Any, module: Any) -> Iterator[Place]:
    weight, size = getattr(norm, "weight", None), _head_dim(module)
    if weight is None or weight.numel() % size:
        raise ModelError(
            f"{type(module).__name__}: {name.rsplit('.', 1)[-1]} has no weight per dimension of a head, and undoes a "
            "factor before it; tune the rotation alone (what: rotation)."
        )
    rows = np.arange(weight.numel()).reshape(-1, size)
    yield Place(name=f"{name}.weight", rows=rows, stored=_stored(norm, weight))
    if getattr(norm, "bias", None) is not None:
        yield Place(name=f"{name}.bias", rows=rows)


def _stored(norm: Any, weight: Tensor) -> float:
    """1 if a norm whose stored weight is zero gives something, else 0."""
    zero = {name: torch.zeros(each.shape) for name, each in norm.named_parameters()}
    ones = torch.arange(1.0, weight.shape[-1] + 1.0).expand(1, 1, *weight.shape)
    with torch.no_grad():
        return float(bool(torch.func.functional_call(norm, zero, (ones,)).abs().max() > 0))


def folded(value: Tensor, place: Place, factor_HD: Tensor) -> Tensor:
    """A place's weight with its rows multiplied; its shape, dtype and device.

    Args:
        value: the weight, R rows (or R numbers, of a norm).
        place: its rows.
        factor_HD: float `[H, D]`; the same for every head where they share rows.

    Raises:
        ModelError: heads have factors of their own, and share one row.
    """
    factor = factor_HD.to(device=value.device, dtype=torch.float32)
    if not place.by_head:
        if not torch.equal(factor, factor[:1].expand_as(factor)):
            raise ModelError(
                f"{place.name} is shared by all heads and cannot hold gains per head; it holds gains per layer and "
                "pair: tune with what: rotation+pair, or the rotation alone."
            )
        factor = factor[:1]
    is_norm = value.ndim == 1 or value.shape[0] == place.rows.shape[0]
    flat = value.detach().float().reshape(-1, *(() if is_norm else value.shape[1:])).clone()
    rows = torch.from_numpy(place.rows.reshape(-1)).to(value.device)
    scale = factor.reshape(-1, *([1] * (flat.ndim - 1)))
    flat[rows] = (flat[rows] + place.stored) * scale - place.stored
    return flat.reshape(value.shape).to(value.dtype)
