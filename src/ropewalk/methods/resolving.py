"""From (geometry, parameters, length) to one static scheme: fill in numbers, call the method, compose."""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass
from typing import Any

from ropewalk.errors import MethodError
from ropewalk.methods.method import Extension, Method, Params, Scaled
from ropewalk.methods.none import shipped, shipped_varies
from ropewalk.methods.parameters import short
from ropewalk.methods.reading import plain
from ropewalk.rope import RopeGeometry, Rotation
from ropewalk.scheme import Scheme, Temperature


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A scheme, and the parameters that made it.

    Attributes:
        scheme: static, for one length.
        params: JSON values as asked, with `factor: auto` replaced by its number.
    """

    scheme: Scheme
    params: dict[str, Any]

    @property
    def rotation(self) -> Rotation:
        """The scheme's.

        Raises:
            MethodError: there is more to the scheme, which would be lost.
        """
        if not self.scheme.only_rotates:
            raise MethodError(
                "this method changes attention as well (branches, a temperature or gains), and only rotations are "
                "taken here; choose a frequency method without a temperature."
            )
        return self.scheme.rotation


def resolve_method(entry: Method, geometry: RopeGeometry, params: Params, length: int) -> Resolved:
    """See `ropewalk.methods.resolve`."""
    _check(entry, params, length)
    filled = with_numbers(geometry, params, length)
    made = entry.function(geometry, filled, length)
    scheme = Scheme(rotation=made) if isinstance(made, Rotation) else made
    if not isinstance(scheme, Scheme) or scheme.rotation.inv_freq.size != geometry.rotary_dim // 2:
        raise MethodError(
            f"{entry.name}: its function gave {short(made)} and not a Rotation of {geometry.rotary_dim // 2} "
            "pairs; mend the method."
        )
    if isinstance(filled, Extension):
        scheme = _composed(geometry, filled, scheme, length)
    _check_reach(entry, geometry, filled, length)
    asked = plain(params)
    if "factor" in asked and isinstance(filled, Scaled):
        asked["factor"] = filled.s
    return Resolved(scheme=scheme, params=asked)


def _composed(geometry: RopeGeometry, params: Extension, scheme: Scheme, length: int) -> Scheme:
    """The scheme over what ships, if it is to be stacked, and with its temperature."""
    if params.compose == "stack":
        turned = [
            dataclasses.replace(branch, rotation=stacked(geometry, branch.rotation, length))
            for branch in scheme.branches
        ]
        rotation = stacked(geometry, scheme.rotation, length)
        scheme = dataclasses.replace(scheme, rotation=rotation, branches=tuple(turned))
    if params.temperature is None:
        return scheme
    return dataclasses.replace(scheme, temperature=temperature(params))


def temperature(params: Extension) -> Temperature:
    """tau of resolved parameters: `logn` and `ministral` count from the trained window, `llama4` from 8192 tokens."""
    asked = params.temperature
    if not isinstance(asked, str):
        return Temperature(kind="constant", beta=float(asked or 1.0))
    if asked == "llama4":
        return Temperature(kind="llama4")
    return Temperature(kind="logn" if asked == "logn" else "ministral", scale=max(2, params.window))


def _check_reach(entry: Method, geometry: RopeGeometry, params: Params, length: int) -> None:
    if entry.reach is not None and length > (most := entry.reach(geometry, params)):
        raise MethodError(
            f"{entry.name}: these parameters reach {most:,.0f} tokens and not {length:,}, beyond which distances grow "
            "out of the trained window; divide far distances by more, or make the near window smaller."
        )


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
