"""The contract of a method: frozen parameters, one pure function, where it comes from, when to use it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import ValidationError

from ropewalk.errors import MethodError, short
from ropewalk.methods.parameters import Choice, Kind, Number, Tokens
from ropewalk.rope import Compose, RopeGeometry, Rotation
from ropewalk.scheme import Scheme

Auto = Literal["auto"]
LARGEST_FACTOR = 1e6
KIND = "kind"
"""The key of a field's metadata that holds its Kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """The parameters of one method: hashable, and checked however they are made.

    Every field carries its `Kind` in `metadata["kind"]`, and holds what that admits: a list becomes a tuple.

    Attributes:
        method: the name of the method.
        rules: what values must satisfy together; each raises MethodError.
    """

    method: ClassVar[str]
    rules: ClassVar[tuple[Callable[[Any], None], ...]] = ()

    def __post_init__(self) -> None:
        for name, spec in parameters(type(self)).items():
            object.__setattr__(self, name, spec.admit(getattr(self, name), self.method))
        for rule in self.rules:
            rule(self)


def ordered(low: str, high: str, remedy: str) -> Callable[[Params], None]:
    """The rule that one parameter is smaller than another."""

    def rule(params: Params) -> None:
        bottom, top = getattr(params, low), getattr(params, high)
        if top <= bottom:
            raise MethodError(f"{params.method}: {high}={top:g} must be larger than {low}={bottom:g}; {remedy}.")

    return rule


TEMPERATURE = Number(
    minimum=1e-3,
    maximum=1e3,
    words=("logn", "llama4", "ministral"),
    optional=True,
    doc="tau(i), multiplies the query at position i: a formula's name or a constant; null leaves what ships",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension(Params):
    """Parameters of every method that changes something: the trained window, what it is applied to, a temperature."""

    original_max_position_embeddings: int | None = field(
        default=None, metadata={KIND: Tokens(doc="trained window L0 in tokens; null takes the model's")}
    )
    compose: Compose = field(
        default="replace",
        metadata={
            KIND: Choice(
                options=("replace", "stack"),
                doc="replace the scaling that the checkpoint ships, or stack on top of it",
            )
        },
    )

    temperature: float | str | None = field(default=None, metadata={KIND: TEMPERATURE})

    @property
    def window(self) -> int:
        """L0 in tokens, once resolved."""
        if self.original_max_position_embeddings is None:
            raise MethodError(f"{self.method}: original_max_position_embeddings is not resolved; call methods.resolve.")
        return self.original_max_position_embeddings


FACTOR = Number(
    minimum=1,
    maximum=LARGEST_FACTOR,
    words=("auto",),
    doc="s, target length / trained window; 'auto' takes it from each measured length",
    remedy="write 'auto', or use the method 'none' to measure the unscaled model",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled(Extension):
    """Parameters of every method that has a factor."""

    factor: float | Auto = field(metadata={KIND: FACTOR})

    @property
    def s(self) -> float:
        """`factor` as a number, once resolved."""
        if isinstance(self.factor, str):
            raise MethodError(f"{self.method}: factor='auto' is not resolved; call methods.resolve.")
        return float(self.factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of one method: its name, Kind and default (MISSING where it has to be given)."""

    name: str
    kind: Kind
    default: Any

    @property
    def required(self) -> bool:
        return self.default is MISSING

    def admit(self, value: object, method: str) -> Any:
        """The value as it is stored. Raises MethodError with value, place and remedy."""
        try:
            return self.kind.admit(value)
        except ValidationError:
            raise MethodError(
                f"{method}: {self.name}={short(value)} must be {self.kind.range} ({self.kind.doc}); {self.remedy}."
            ) from None

    @property
    def remedy(self) -> str:
        return self.kind.remedy or f"leave {self.name} out for the default, {spelled(self.default)}"


def spelled(value: object) -> str:
    """A default as a user writes it in YAML."""
    return value if isinstance(value, str) else json.dumps(value)


@cache
def parameters(params: type[Params]) -> Mapping[str, Parameter]:
    """The parameters of a method by name: its own in written order, then those that all methods share."""
    shared = {f.name for f in dataclasses.fields(Extension)}
    fields = sorted(dataclasses.fields(params), key=lambda f: f.name in shared)
    return MappingProxyType({f.name: Parameter(name=f.name, kind=f.metadata[KIND], default=f.default) for f in fields})


def never(geometry: RopeGeometry, params: Any) -> bool:
    """The rotation is the same at every length."""
    return False


def one(params: Any) -> str | None:
    """No two windows are asked for."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method, ready for the table METHODS or for an entry point of the group `ropewalk.methods`.

    Attributes:
        name: as written in experiment files; equal to `params.method`.
        params: its frozen parameters.
        function: pure; sees `factor` and `original_max_position_embeddings` as numbers, and the unscaled geometry.
            `compose` is none of its business: `ropewalk.methods.resolve` stacks.
        paper: where the formula comes from.
        summary: when to use it, one line.
        formula: lambda_i and A in plain text (inv_freq_i = f_i / lambda_i).
        hugging_face: the `rope_type` that says the same in a Hugging Face configuration, or None.
        varies: whether the rotation depends on the length for these (resolved) parameters. It has to say so:
            a static rotation is measured at all lengths in one pass.
        reach: the longest text, in tokens, for which these parameters are meant; None for any. Longer ones are refused.
        hf: the method's form in a Hugging Face configuration, or None where it has none and goes out as longrope with
            lambda as both lists. Pure; sees what `function` sees and gives the keys of `rope_parameters` that say the
            same: rope_type, and what differs from an unscaled checkpoint's. None for parameters that have no such form.
        two_windows: where one rotation up to the window and another beyond it are asked for, what to ask for instead
            to have one at all lengths; else None.
    """

    name: str
    params: type[Params]
    function: Callable[[RopeGeometry, Any, int], Rotation | Scheme]
    paper: str
    summary: str
    formula: str = ""
    hugging_face: str | None = None
    varies: Callable[[RopeGeometry, Any], bool] = never
    reach: Callable[[RopeGeometry, Any], float] | None = None
    hf: Callable[[RopeGeometry, Any, int], dict[str, Any] | None] | None = None
    two_windows: Callable[[Any], str | None] = one

    def __post_init__(self) -> None:
        if self.params.method != self.name:
            raise MethodError(
                f"method {self.name!r} has parameters of {self.params.method!r}; "
                f"write method: ClassVar[str] = {self.name!r} in {self.params.__name__}."
            )
