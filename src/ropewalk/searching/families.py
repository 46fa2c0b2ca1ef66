"""What a search may vary: families of rotations over a few real coordinates; pure.

A coordinate is a logarithm: of lambda at a knot, of A, or of a parameter of a method. 0 is lambda = 1 and A = 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from typing_extensions import override

from ropewalk.errors import ExperimentError
from ropewalk.experiment.plan import Configuration
from ropewalk.experiment.schema import Search
from ropewalk.methods import find, make_params, resolve
from ropewalk.methods.method import Parameter, parameters
from ropewalk.methods.parameters import Number
from ropewalk.rope import RopeGeometry, Rotation

Values = NDArray[np.float64]
"""One number per coordinate."""

CEILING = 8.0
"""lambda reaches at most this times length / window."""
LEAST = 1e-12
"""A smaller ln lambda is 0: it changes nothing, and the interpolation divides by it."""
LAMBDA_REACH = math.log(2.0)
ATTENTION_REACH = math.log(1.16)
PARAMETER_REACH = math.log(4.0)
"""How far a search goes from where it starts, in each direction."""


class Family(ABC):
    """Rotations by coordinates.

    Laws: `rotation(start(c, r)) == r` if r is in the family; every value gives a rotation or a MethodError.
    """

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Of the coordinates."""

    @property
    @abstractmethod
    def reach(self) -> Values:
        """How far from its start a coordinate is varied, > 0."""

    @abstractmethod
    def rotation(self, values: Sequence[float] | Values) -> Rotation:
        """The rotation at these coordinates."""

    @abstractmethod
    def start(self, configuration: Configuration, rotation: Rotation) -> Values | None:
        """The coordinates nearest to a configuration and its rotation; None if it has none here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Monotone(Family):
    """lambda grows with the pair's index: ln lambda at K knots, evenly spaced, and ln A.

    ln lambda between knots is the monotone cubic of Fritsch & Carlson (1980). A knot below the one before it counts as
    that one, one below 0 as 0. With as many knots as pairs this is LongRoPE's monotone list (arXiv:2402.13753).
    """

    geometry: RopeGeometry
    knots: int
    length: int

    @property
    @override
    def names(self) -> tuple[str, ...]:
        return (*(f"ln lambda {round(place)}" for place in self.places), "ln A")

    @property
    @override
    def reach(self) -> Values:
        return np.array([LAMBDA_REACH] * self.knots + [ATTENTION_REACH])

    @property
    def places(self) -> Values:
        """Pair index of each knot, `[K]`."""
        return np.linspace(0, self.geometry.rotary_dim // 2 - 1, self.knots)

    @property
    def ceiling(self) -> float:
        """The largest ln lambda."""
        return math.log(CEILING * max(1.0, self.length / self.geometry.window().length))

    @override
    def rotation(self, values: Sequence[float] | Values) -> Rotation:
        knots_K = np.maximum.accumulate(np.clip(np.asarray(values[:-1], dtype=np.float64), 0.0, self.ceiling))
        knots_K[knots_K < LEAST] = 0.0
        log_lambda = PchipInterpolator(self.places, knots_K)(np.arange(self.geometry.rotary_dim // 2))
        return Rotation(
            inv_freq=self.geometry.unscaled_inv_freq / np.exp(np.clip(log_lambda, 0.0, self.ceiling)),
            attention_factor=math.exp(float(values[-1])),
        )

    @override
    def start(self, configuration: Configuration, rotation: Rotation) -> Values:
        log_lambda = log_divisors(self.geometry, rotation, self.ceiling)
        knots_K = np.interp(self.places, np.arange(log_lambda.size), log_lambda)
        return np.append(knots_K, math.log(rotation.attention_factor))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refine(Family):
    """A named method's own numbers, each by its logarithm; what is no number stays at its default."""

    geometry: RopeGeometry
    method: str
    length: int

    @property
    def varied(self) -> dict[str, Parameter]:
        """The parameters that are numbers: with a numeric default, required, or `auto`."""
        known = parameters(find(self.method).params)
        return {
            name: parameter
            for name, parameter in known.items()
            if isinstance(parameter.kind, Number) and (parameter.required or parameter.default is not None)
        }

    @property
    @override
    def names(self) -> tuple[str, ...]:
        return tuple(f"ln {name}" for name in self.varied)

    @property
    @override
    def reach(self) -> Values:
        reaches = {"attention_factor": ATTENTION_REACH}
        return np.array([reaches.get(name, PARAMETER_REACH) for name in self.varied])

    def params(self, values: Sequence[float] | Values) -> Mapping[str, Any]:
        """The parameters at these coordinates, inside their ranges."""
        return {
            name: _inside(parameter, math.exp(float(value)))
            for (name, parameter), value in zip(self.varied.items(), values, strict=True)
        }

    @override
    def rotation(self, values: Sequence[float] | Values) -> Rotation:
        made = make_params(self.method, self.params(values))
        return resolve(self.geometry, self.method, made, self.length).rotation

    @override
    def start(self, configuration: Configuration, rotation: Rotation) -> Values | None:
        if configuration.method != self.method:
            return None
        given = resolve(self.geometry, self.method, configuration.params, self.length).params
        known = {name: parameter.default for name, parameter in self.varied.items()} | given
        known = {name: rotation.attention_factor if value == "auto" else value for name, value in known.items()}
        return np.log([float(known[name]) for name in self.varied])


def log_divisors(geometry: RopeGeometry, rotation: Rotation, ceiling: float) -> Values:
    """ln lambda per pair, at most `ceiling`, which is also that of a pair that does not turn."""
    with np.errstate(divide="ignore"):
        return np.minimum(np.log(geometry.unscaled_inv_freq / rotation.inv_freq), ceiling)


def _inside(parameter: Parameter, value: float) -> float:
    kind = parameter.kind
    assert isinstance(kind, Number)
    low = kind.minimum if kind.minimum is not None else math.nextafter(kind.above or 0.0, math.inf)
    return min(max(value, low), kind.maximum)


def make(asked_for: Search, geometry: RopeGeometry, length: int) -> Family:
    """The family that a search asks for.

    Raises:
        MethodError: `search.method` does not exist.
        ExperimentError: it has no number to vary.
    """
    pairs = geometry.rotary_dim // 2
    if asked_for.method is not None:
        family = Refine(geometry=geometry, method=asked_for.method, length=length)
        if not family.varied:
            raise ExperimentError(f"search.method={asked_for.method} has no number to vary; name another method.")
        return family
    knots = pairs if asked_for.family == "free" else min(asked_for.knots, pairs)
    return Monotone(geometry=geometry, knots=knots, length=length)


def named(geometry: RopeGeometry, window: int, length: int) -> dict[str, list[dict[str, Any]]]:
    """Grids of the usual methods that extend without lists or training, for a search's first candidates.

    Variants of them (ntk_fixed, ntk_mixed, resonance) are a file's to name.
    `ntk_aware` and `dynamic_ntk` need larger factors than length / window: only their last pair reaches the factor.
    """
    s = length / window
    factors = {"ntk_aware": (s, 1.5 * s, 2 * s, 3 * s), "dynamic_ntk": (1.0, 2.0, 4.0)}
    methods = ("linear", "ntk_aware", "ntk_by_parts", "dynamic_ntk", "yarn", "llama3", "longrope", "mrrope")
    grids = {name: [{"factor": float(f)} for f in factors.get(name, (s, 1.5 * s, 2 * s))] for name in methods}
    theta = geometry.rope_theta
    return grids | {"abf": [{"rope_theta": theta * f} for f in (s, s**1.5, s**2)]}
