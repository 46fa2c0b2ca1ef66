"""From (geometry, parameters, length) to one static rotation: fill in numbers, call the method, compose."""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass
from typing import Any

from ropewalk.errors import MethodError, short
from ropewalk.methods.method import Extension, Method, Params, Scaled
from ropewalk.methods.none import shipped, shipped_varies
from ropewalk.methods.reading import plain
from ropewalk.rope import RopeGeometry, Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A rotation, and the parameters that made it.

    Attributes:
        rotation: static, for one length.
        params: JSON values as asked, with `factor: auto` replaced by its number.
    """

    rotation: Rotation
    params: dict[str, Any]


def resolve_method(entry: Method, geometry: RopeGeometry, params: Params, length: int) -> Resolved:
    """See `ropewalk.methods.resolve`."""
    _check(entry, params, length)
    filled = with_numbers(geometry, params, length)
    rotation = entry.function(geometry, filled, length)
    if not isinstance(rotation, Rotation) or rotation.inv_freq.size != geometry.rotary_dim // 2:
        raise MethodError(
            f"{entry.name}: its function gave {short(rotation)} and not a Rotation of {geometry.rotary_dim // 2} "
            "pairs; mend the method."
        )
    if isinstance(filled, Extension) and filled.compose == "stack":
        rotation = stacked(geometry, rotation, length)
    asked = plain(params)
    if "factor" in asked and isinstance(filled, Scaled):
        asked["factor"] = filled.s
    return Resolved(rotation=rotation, params=asked)


def with_numbers(geometry: RopeGeometry, params: Params, length: int) -> Params:
    """Fill in what was left open: the window from the geometry, `factor: auto` = max(1, length/L0)."""
    if not isinstance(params, Extension):
        return params
    given = params.original_max_position_embeddings
    window = geometry.window(params.compose).length if given is None else given
    if not isinstance(params, Scaled):
        return dataclasses.replace(params, original_max_position_embeddings=window)
    factor = max(1.0, length / window) if isinstance(params.factor, str) else float(params.factor)
    return dataclasses.replace(params, original_max_position_embeddings=window, factor=factor)


def stacked(geometry: RopeGeometry, rotation: Rotation, length: int) -> Rotation:
    """lambda = lambda_shipped * lambda_method, the factors likewise (llama.cpp: flags on a scaled file).

    Written so that a checkpoint without scaling returns `rotation` to the last bit.
    """
    under = shipped(geometry, length)
    return Rotation(
        inv_freq=rotation.inv_freq * (under.inv_freq / geometry.unscaled_inv_freq),
        attention_factor=under.attention_factor * rotation.attention_factor,
        softmax_factor=under.softmax_factor * rotation.softmax_factor,
    )


def method_depends_on_length(entry: Method, geometry: RopeGeometry, params: Params) -> bool:
    """See `ropewalk.methods.depends_on_length`."""
    _check(entry, params, length=1)
    if isinstance(params, Scaled) and params.factor == "auto":
        return True
    window = geometry.window().length
    filled = with_numbers(geometry, params, window)
    if entry.varies(geometry, filled):
        return True
    if entry.function(geometry, filled, 1) != entry.function(geometry, filled, 16 * window):
        raise MethodError(
            f"{entry.name}: says that it does not depend on the length, but does; give its Method a function `varies`."
        )
    return isinstance(filled, Extension) and filled.compose == "stack" and shipped_varies(geometry)


def _check(entry: Method, params: Params, length: int) -> None:
    if type(params) is not entry.params:
        raise MethodError(
            f"{entry.name}: takes {entry.params.__name__}, not {type(params).__name__}; "
            f"make its parameters with make_params({entry.name!r}, ...)."
        )
    if isinstance(length, bool) or not isinstance(length, numbers.Integral) or int(length) < 1:
        raise MethodError(f"{entry.name}: length={short(length)} must be a whole number of tokens >= 1; give one.")
